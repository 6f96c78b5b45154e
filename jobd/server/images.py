"""The verbs of images: built from what a client has sent, their output read as it comes."""

from __future__ import annotations

from typing import Any

from jobd.core.commands import Body
from jobd.core.spec import check_name
from jobd.core.specvalues import choice, text, variables
from jobd.errors import InvalidError, NotFoundError
from jobd.server.kernel import Kernel, Later, Offload, Request
from jobd.wire.envelope import CHUNK, HOLD_MS

_NETWORK = choice("none", "host", "bridge")
_WORD = text(512)


def build(kernel: Kernel, request: Request) -> Any:
    """image.build"""
    arguments = request.arguments
    job = check_name(arguments["job"], "job")
    dockerfile = arguments.get("dockerfile", "Dockerfile")
    _WORD(dockerfile, "dockerfile")
    if dockerfile.startswith("/") or ".." in dockerfile.split("/"):
        raise InvalidError(f"dockerfile: {dockerfile!r:.80}: expected a path inside the context")
    settings = {
        "dockerfile": dockerfile,
        "args": variables(arguments.get("args", {}), "args"),
        "network": _NETWORK(arguments["network"], "network") if "network" in arguments else None,
        "target": _WORD(arguments["target"], "target") if "target" in arguments else None,
    }

    def context() -> Body:
        return kernel.uploaded(request.caller, arguments["upload"])

    return Offload(lambda: {"build": kernel.builds.begin(request.key, context, job, settings)})


def output(kernel: Kernel, request: Request) -> Any:
    """image.output"""
    arguments = request.arguments
    number = arguments["build"]
    # before the look: what comes after it is then told of
    kernel.watch_log(-number)
    view = kernel.builds.view(number, max(0, arguments.get("offset", 0)), CHUNK)
    if view is None:
        raise NotFoundError(
            f"build {number}: is not under way: jobd was started anew, or it is long over; "
            "build again, what was done is not done twice"
        )
    if not view.data and not view.over and not request.final:
        raise Later([-number], min(arguments.get("hold", HOLD_MS), HOLD_MS))
    if view.error is not None and not view.data:
        raise view.error
    return {
        "data": view.data,
        "offset": view.offset,
        "end": view.over and view.error is None,
        "image": view.image,
        "image_id": view.image_id,
    }
