"""The texts that `jobctl init` writes. A test holds the keys against those that jobd reads."""

from __future__ import annotations

CONFIG = """\
# The configuration of jobd. Every key has a default that suits the host; what is commented out
# shows the form. A key that does not exist is an error. `jobd check` tells what is in force, and
# `systemctl reload jobd` (SIGHUP) takes a changed file whole or keeps the old one.

[engine]
# kind = "auto"                    # auto, docker, podman, process (no containers at all), fake
# socket = "unix:///var/run/docker.sock"
# docker_config = "/etc/jobd/docker"   # the folder with config.json: credentials for registries
# request_timeout = "10s"          # an answer that takes longer: the engine counts as away
# start_timeout = "30s"            # the same for creating, starting and removing
# concurrency = 20                 # containers at once
# share_none = true               # attempts with network "none" share one namespace: faster

[process]                          # jobs without an image: children of the host, not isolated
# enabled = false
# user = "jobd-run"                # who they run as where jobd is root
# concurrency = 20                 # processes at once

[capacity]                         # what runs may take in all
# cpus = 4.0
# memory = "12G"
# gpus = 2                         # found by /dev/nvidia* where not said
# reserve_cpus = 0.25              # kept from runs while others run
# reserve_memory = "512M"
# concurrency = 40                 # runs at once, whatever they need

[admission]                        # a host that is busy by itself makes runs wait; "off"
# pressure_memory = 0.5            # share of the last 10 s that something waited (/proc/pressure)
# pressure_cpu = "off"
# pressure_io = "off"
# load = "off"                     # of the last minute, for each core
# disk_free = "128M"               # of queue, logs and images; at most a tenth of the disk
# images_path = "/var/lib/docker"  # where the engine keeps them

[order]                            # who is next: priority, then age, jobs in turn
# reserve_after = "60s"            # smaller runs may pass one that does not fit for so long
# age_after = "10m"                # each so long of waiting is one priority more; "never"

[groups]                           # limits that jobs share: `group = "NAME"` in their [limits]
# gpu = { concurrency = 1 }
# mail = { rate = "100/h", burst = 10 }

[alerts]                           # where alerts may go, and what those of the host are about
# allow = ["https://hooks.slack.com/services/*"]   # URLs; `*` ends a path, `*.` begins a host
# secret = "alerts-key"            # a file of the secrets folder, which signs what is sent
# user = "jobd-notify"             # who `jobd notify` runs as; it has to reach the socket
# child = "auto"                   # whether jobd starts it: auto (not below systemd), always, never
# rate = "60/h"                    # messages in all; the rest goes out later
# burst = 30
# retry = "10s"                    # the first wait after one that failed; twice as long each time
# give_up = "2d"
# journal = "/run/systemd/journal/socket"
# to = { ops = { url = "https://hooks.slack.com/services/T0/B0/x", template = "slack" } }
# commands = { page = ["/usr/local/bin/page"] }
# on = [{ on = ["engine", "disk"], to = "ops" }]

[maxima]                           # what no job may exceed
# cpus = 4.0
# memory = "8G"
# gpus = 1                         # of one run
# pids = 4096
# shm = "2G"                       # of /dev/shm; counts as the run's memory
# ulimits = { nofile = 65536 }
# timeout = "6h"
# attempts = 10
# payload = "16M"
# output = "256M"                  # of the files that an attempt leaves in OUTPUT_DIR
# context = "512M"                 # of what `register --build` sends
# uploads = "2G"                   # of what one user has uploaded and not used, for a day
# user_queue = 10000               # runs of one user that wait at once
# chain = 16                       # runs that may follow one from another ([[on]])

[images]
# allow = ["*"]                    # patterns of images that jobs may use
# pull = "missing"                 # missing, always, never: where a job does not say
# keep_age = "30d"                 # pulled images that nobody needs are removed, longest unused
# keep_size = "20G"                # first; off unless one of the two is given

[allow]                            # what of the host jobs may have
# mounts = ["/srv/data", "/srv/in:ro"]   # folders, and what is below them
# networks = ["none", "bridge"]
# devices = []
# users = ["*"]                    # who containers may run as

[logs]
# per_attempt = "64M"              # of output kept, its head and its tail
# keep = "30d"                     # then a log goes, also where its run is kept for longer

[history]                          # of runs that have ended
# keep = "30d"                     # then they are removed, with logs, results and output
# keep_dead = "90d"                # those that used up their attempts; as `keep` where not said
# runs = 100000                    # so many are kept, the newest
# window = 1000                    # so many stay in memory; the others are read from the disk
# window_age = "1d"                # and none that ended longer ago

[journal]                          # the queue on disk
# snapshot_after = "128M"          # bytes written to it that are worth a snapshot

[access]                           # users and @groups; a job's own [access] counts in its place
# admin = ["root", "@jobd-admin"]  # and the daemon's own user
# submit = ["@jobd"]
# read = []                        # of others' runs; one's own are always readable
# socket_mode = "0660"             # "0666": all on this host may ask, and the rights above decide
# socket_group = "jobd"

[defaults]                         # any key of a job file, for jobs that say nothing
# timeout = "1h"
# resources = { cpus = 1.0, memory = "512M" }
"""

JOB = """\
# A job: one file each in this folder, registered when jobd starts and when it is reloaded. It is
# changed here and nowhere else. Its name is the file's: hello.

image = "busybox"
command = ["sh", "-c", "echo hello from $JOB_NAME, run $RUN_ID; cat $PAYLOAD_FILE"]
timeout = "10m"                    # of one attempt

[resources]
cpus = 0.5
memory = "64M"

[retry]
attempts = 3                       # in all
delay = "10s"
"""
