.PHONY: demo demo-stop test test-fast test-all bench format

demo:       ## set up, show the main job, leave a private daemon to play with
	./contrib/demo

demo-stop:  ## end what the demo started
	./contrib/demo stop

test:       ## set up and run everything but the long stress runs
	./contrib/test

test-fast:  ## static checks, unit and integration tests; no engine
	./contrib/test --fast

test-all:   ## everything
	./contrib/test --all

bench:      ## measure jobd beside its peers, on this machine
	./contrib/bench

format:
	.venv/bin/ruff format
	.venv/bin/ruff check --fix
