#!/usr/bin/env bash
# A Slurm of one node on this machine, to try profiles/slurm: controller, node and munge on loopback, no accounting.
#
#   tools/slurm_here.sh start FOLDER    start it; its files are in FOLDER, and /etc/slurm/slurm.conf links to its settings
#   tools/slurm_here.sh stop FOLDER     stop it
#
# Needs Debian's packages slurm-wlm and munge, and root. Jobs are tracked by linuxproc, so that no cgroups are needed.
set -euo pipefail

command=${1:-help}
folder=${2:-}
system=/etc/slurm/slurm.conf # where jobs look for it: the variables that name another one do not reach them

daemons() {
    for name in slurmd slurmctld munged; do
        if [ -e "$folder/$name.pid" ]; then
            kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
            rm -f "$folder/$name.pid"
        fi
    done
    if [ "$(readlink "$system" || true)" = "$folder/slurm.conf" ]; then rm -f "$system"; fi
}

case "$command" in
start)
    mkdir -p "$folder"/{state,spool,log}
    folder=$(cd "$folder" && pwd)
    chmod 755 "$folder"
    [ -e "$folder/munge.key" ] || head -c 128 /dev/urandom >"$folder/munge.key"
    chown munge: "$folder" "$folder/munge.key"
    chmod 400 "$folder/munge.key"
    socket=$folder/munge.socket
    runuser -u munge -- munged --key-file="$folder/munge.key" --socket="$socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" --force
    host=$(hostname -s)
    memory=$(awk '/MemTotal/ { print int($2 / 1024) - 500 }' /proc/meminfo)
    cat >"$folder/slurm.conf" <<CONF
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${SLURM_PORT:-36817}
SlurmdPort=$((${SLURM_PORT:-36817} + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
MinJobAge=600
KillWait=30
SchedulerParameters=sched_interval=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=short Nodes=$host Default=YES MaxTime=60 State=UP
CONF
    if [ -e "$system" ] && [ ! -L "$system" ]; then
        echo "$system is there: this machine has a Slurm already" >&2
        exit 1
    fi
    mkdir -p "$(dirname "$system")"
    ln -sfn "$folder/slurm.conf" "$system"
    slurmctld
    slurmd -N "$host"
    for _ in $(seq 60); do
        if [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ]; then
            exit 0
        fi
        sleep 1
    done
    tail -n 5 "$folder"/log/*.log >&2
    daemons
    exit 1
    ;;
stop)
    folder=$(cd "$folder" && pwd)
    daemons
    ;;
*)
    sed -n '2,7p' "$0"
    ;;
esac
