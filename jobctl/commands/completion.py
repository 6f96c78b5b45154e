"""`jobctl completion`: prints the script that completes words for a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl.output import Output
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Prints a script for your shell that completes verbs, options, job names and run ids.

  source <(jobctl completion bash)          # or in ~/.bashrc
  source <(jobctl completion zsh)           # in ~/.zshrc, behind compinit
  jobctl completion fish | source           # or > ~/.config/fish/completions/jobctl.fish

Names and ids come from the daemon while it answers at once; without one the rest is completed."""

# bash cuts words at ":" and "=", so `last:JOB` is put together again before it is asked about, and
# the part that bash thinks is done already is taken off the answers
_BASH = r"""# bash completion of jobctl; made by `jobctl completion bash`
_jobctl() {
    local line word i glue="" cut=""
    local -a words=()
    COMPREPLY=()
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((${#words[@]})) && { [[ $word == [:=]* ]] || [[ $glue ]]; }; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        glue=""
        [[ $word == [:=] ]] && glue=1
    done
    ((${#words[@]})) || words=("")
    word=${words[-1]}
    if [[ $word == *[:=]* ]]; then
        cut=${word%"${word##*[:=]}"}
    fi
    while IFS= read -r line; do
        line=${line%%$'\t'*}
        if [[ $line == :files ]]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r line; do COMPREPLY+=("$line"); done \
                < <(compgen -f -- "${word#"$cut"}")
        else
            COMPREPLY+=("${line#"$cut"}")
        fi
    done < <("${COMP_WORDS[0]}" __complete "${words[@]}" 2>/dev/null)
}
complete -F _jobctl jobctl"""

_ZSH = r"""#compdef jobctl
# zsh completion of jobctl; made by `jobctl completion zsh`
_jobctl() {
    local line
    local -a found
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            _files
        else
            # a colon ends the candidate for _describe, so those of the candidate are escaped
            found+=("${${line%%$'\t'*}//:/\\:}${${(M)line%$'\t'*}/$'\t'/:}")
        fi
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#found )) && _describe -V jobctl found
}
compdef _jobctl jobctl"""

_FISH = r"""# fish completion of jobctl; made by `jobctl completion fish`
function __jobctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l program $words[1]
    for line in ($program __complete $words[2..-1] 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c jobctl -f -k -a '(__jobctl_complete)'"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def add_arguments(parser: ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SCRIPTS), help="bash, zsh or fish")


def check(given: Namespace, out: Output) -> None:
    """A script is no JSON."""
    if out.json:
        raise UsageError("completion: a script is no JSON value: leave -o out")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Prints."""
    out.line(SCRIPTS[given.shell])
    return 0
