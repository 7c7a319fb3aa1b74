#!/bin/sh
# drain.sh PORT [SETTLE_SECONDS]: the preStop hook of llama-server, which on SIGTERM stops answers midway.
# Waits until no node sends it requests any more and it has answered those that it has; the grace period bounds it.
set -u
port=$1
settle=${2:-5}

# Nothing answered now and nothing waiting for a slot (/slots would not show the latter).
idle() {
    answer=$(curl -s -m 30 -w '\nhttp_status %{http_code}\n' "http://127.0.0.1:$port/metrics")
    [ $? -eq 7 ] && return 0 # it is gone
    zeros=0
    while read -r name value; do
        case $name,$value in
            http_status,503) return 0 ;; # it still loads
            llamacpp:requests_processing,0 | llamacpp:requests_deferred,0) zeros=$((zeros + 1)) ;;
        esac
    done <<METRICS
$answer
METRICS
    [ "$zeros" -eq 2 ]
}

sleep "$settle"
# two looks, lest a request is just between its connection and the queue
until idle && sleep 1 && idle; do
    sleep 1
done
