#!/usr/bin/env bash
# A run on a TPU slice of Google Cloud: asks for the slice, prepares its workers, starts, stops.
#
#   launch/tpu_vm.sh COMMAND --name=NAME --zone=ZONE [FLAGS] [-- PROGRAM [ARGUMENTS]]
#
#   launch/tpu_vm.sh up     --name=mrg --zone=us-west4-a --spot --bucket=my-bucket -- \
#       python launch/train.py --config=configs/mrg.py:7b --workdir=/bucket/runs/mrg
#   launch/tpu_vm.sh logs   --name=mrg --zone=us-west4-a
#   launch/tpu_vm.sh delete --name=mrg --zone=us-west4-a        # until then it costs
#
# Commands:
#   create   ask for the slice, as a queued resource
#   wait     until it is there
#   setup    copy this checkout to every worker, install it, mount the bucket as /bucket
#   start    start PROGRAM on every worker, in ~/pefomed; it goes on when the connection ends
#   up       all of these, those that are done apart; the same after a preemption, to go on:
#            what is left of the old slice is deleted, a new one asked for
#   logs     what worker --worker says, as it comes (ctrl-C ends the showing, not the run)
#   status   of the slice, and of the run on each worker
#   ssh      PROGRAM on every worker, now: -- df -h
#   stop     tell the run to save and end, and wait until it has
#   delete   give the slice back
#
# Flags:
#   --name=NAME       of the queued resource and its node (pefomed)
#   --zone=ZONE       one that has the type: gcloud compute tpus accelerator-types list --zone=ZONE
#   --project=ID      the default of gcloud otherwise
#   --type=TYPE       v5litepod-16 (16 chips of v5e), v5p-32 (16 chips of v5p), v6e-16, …
#   --runtime=VERSION of the workers' system (the one for the type)
#   --slices=N        joined by the data centre's network (1)
#   --spot            cheaper, and may be taken away
#   --bucket=BUCKET   of Cloud Storage, without gs://, for --workdir and data
#   --service_account=EMAIL   as whom the workers use the bucket (the project's default)
#   --restarts=N      of all workers together, on 75, 76 or a killed process (10)
#   --worker=N        whose log (0: it writes the run's own lines; all)
#   --valid=DURATION  how long to queue for the slice, as 6h (no limit)
#   --dry_run         print every command, run none
set -euo pipefail

NAME=pefomed ZONE="" PROJECT="" TYPE=v5litepod-16 RUNTIME="" SLICES=1 SPOT="" BUCKET=""
ACCOUNT="" RESTARTS=10 WORKER=0 VALID="" DRY_RUN=""
PROGRAM=()
PAUSE=45 # seconds before a restart: longer than the other workers take to leave

fail() {
    echo "error: $1" >&2
    exit "${2:-1}"
}

say() { echo "tpu_vm: $*" >&2; }

run() {
    if [[ -n $DRY_RUN ]]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

parse() {
    while (($#)); do
        case $1 in
            --name=*) NAME=${1#*=} ;;
            --zone=*) ZONE=${1#*=} ;;
            --project=*) PROJECT=${1#*=} ;;
            --type=*) TYPE=${1#*=} ;;
            --runtime=*) RUNTIME=${1#*=} ;;
            --slices=*) SLICES=${1#*=} ;;
            --spot) SPOT=yes ;;
            --bucket=*) BUCKET=${1#*=} ;;
            --service_account=*) ACCOUNT=${1#*=} ;;
            --restarts=*) RESTARTS=${1#*=} ;;
            --worker=*) WORKER=${1#*=} ;;
            --valid=*) VALID=${1#*=} ;;
            --dry_run) DRY_RUN=yes ;;
            --)
                shift
                PROGRAM=("$@")
                return
                ;;
            *) fail "$1 is no flag; see launch/tpu_vm.sh --help" 2 ;;
        esac
        shift
    done
}

runtime() {
    case $TYPE in
        v5litepod-*) echo v2-alpha-tpuv5-lite ;;
        v5p-*) echo v2-alpha-tpuv5 ;;
        v6e-*) echo v2-alpha-tpuv6e ;;
        *) fail "--type=$TYPE: its runtime is not known here; add --runtime=VERSION" 2 ;;
    esac
}

# gcloud compute tpus queued-resources VERB …, in the zone and the project
resource() {
    run gcloud compute tpus queued-resources "$@" "--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"}
}

# on every worker (or those of $1), the script $2
on() {
    resource ssh "$NAME" --node=all "--worker=$1" "--command=$2"
}

state() {
    if [[ -n $DRY_RUN ]]; then
        echo "${DRY_RUN_STATE:-NONE}"
        return
    fi
    resource describe "$NAME" "--format=value(state.state)" 2>/dev/null || echo NONE
}

create() {
    local version nodes=("--node-id=$NAME")
    version=${RUNTIME:-$(runtime)}
    if ((SLICES > 1)); then
        nodes=("--node-count=$SLICES" "--node-prefix=$NAME")
    fi
    resource create "$NAME" "${nodes[@]}" "--accelerator-type=$TYPE" "--runtime-version=$version" \
        ${SPOT:+--spot} ${ACCOUNT:+"--service-account=$ACCOUNT"} \
        ${VALID:+"--valid-until-duration=$VALID"}
}

wait_for() {
    local now before=""
    [[ -n $DRY_RUN ]] && resource describe "$NAME" "--format=value(state.state)" && return
    while true; do
        now=$(state)
        [[ $now == "$before" ]] || say "$NAME is $now"
        case $now in
            ACTIVE) return ;;
            FAILED | SUSPENDING | SUSPENDED | DELETING | NONE)
                fail "there will be no slice: $NAME is $now; the reason: gcloud compute tpus \
queued-resources describe $NAME --zone=$ZONE; another try: launch/tpu_vm.sh up"
                ;;
            *) ;; # in the queue, or being made
        esac
        before=$now
        sleep "${POLL:-20}"
    done
}

# shellcheck disable=SC2016 # the workers expand it
ALONE='set -e
export PATH="$HOME/pefomed-env/bin:$HOME/.local/bin:$PATH"
if [ -e ~/pefomed.pid ] && kill -0 "$(cat ~/pefomed.pid)" 2>/dev/null; then
    echo "a run is there already; stop it first" >&2
    exit 1
fi
'
# shellcheck disable=SC2016
INSTALL='mkdir -p ~/pefomed && tar -xzf ~/pefomed.tgz -C ~/pefomed
command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
# a Python of its own: that of the image is too old
uv venv --quiet --allow-existing --python 3.12 ~/pefomed-env
uv pip install --quiet --python ~/pefomed-env/bin/python --editable "$HOME/pefomed[tpu]"
'
# shellcheck disable=SC2016
MOUNT='if ! mountpoint -q /bucket; then
    if ! command -v gcsfuse >/dev/null; then
        key=/usr/share/keyrings/cloud.google.asc
        curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee $key >/dev/null
        echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
            sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
        sudo apt-get update -qq && sudo apt-get install -qq -y gcsfuse >/dev/null
    fi
    sudo mkdir -p /bucket && sudo chown "$(id -u)" /bucket
    # a checkpoint is finished by renaming its folder; every host has to see at once what another
    # wrote, where gcsfuse would take its own memory of the bucket for true, on large hosts for ever
    gcsfuse --implicit-dirs --rename-dir-limit=200000 --metadata-cache-ttl-secs=0 \
        --metadata-cache-negative-ttl-secs=0 "$BUCKET" /bucket
fi
'

setup() {
    local archive=${TMPDIR:-/tmp}/pefomed.tgz script=$ALONE$INSTALL
    run bash -c "git ls-files -z --cached --others --exclude-standard | tar -cz --null \
--ignore-failed-read --files-from=- --file=$archive"
    resource scp "$archive" "$NAME:" --node=all --worker=all
    run rm "$archive"
    [[ -n $BUCKET ]] && script+="BUCKET=$(printf %q "$BUCKET")"$'\n'"$MOUNT"
    on all "$script"
}

# local.py there is what restarts, passes signals on and leaves nothing behind
start() {
    ((${#PROGRAM[@]})) || fail "no program: put it after --, as in -- python launch/train.py …" 2
    local program
    program="--processes=1 --restarts=$RESTARTS --pause=$PAUSE -- $(printf '%q ' "${PROGRAM[@]}")"
    on all "$ALONE
cd ~/pefomed
nohup setsid python launch/local.py $program >>~/pefomed.log 2>&1 </dev/null &
echo \$! >~/pefomed.pid"
}

up() {
    local now
    now=$(state)
    case $now in
        FAILED | SUSPENDING | SUSPENDED) # preempted, or never there
            say "$NAME is $now: asking for it anew"
            delete
            create
            ;;
        NONE) create ;;
        *) say "$NAME is $now already" ;;
    esac
    wait_for
    setup
    start
}

stop() {
    # shellcheck disable=SC2016
    on all 'pid=$(cat ~/pefomed.pid) && kill "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 1; done
tail -n 3 ~/pefomed.log'
}

status() {
    resource describe "$NAME" "--format=value(state.state)"
    # shellcheck disable=SC2016
    on all 'kill -0 "$(cat ~/pefomed.pid)" 2>/dev/null && echo "$(hostname): runs" || echo "$(hostname): ended"
tail -n 1 ~/pefomed.log'
}

delete() { resource delete "$NAME" --force --quiet; }

if (($# == 0)) || [[ $1 == --help ]]; then
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit 0
fi
command=$1
shift
parse "$@"
[[ -n $ZONE ]] || fail "--zone is needed, as in --zone=us-west4-a" 2
case $command in
    create | setup | start | up | stop | status | delete) "$command" ;;
    wait) wait_for ;;
    logs) on "$WORKER" 'tail -n 100 -F ~/pefomed.log' ;;
    ssh) on all "cd ~/pefomed; $(printf '%q ' "${PROGRAM[@]}")" ;;
    *) fail "$command is no command; see launch/tpu_vm.sh --help" 2 ;;
esac
