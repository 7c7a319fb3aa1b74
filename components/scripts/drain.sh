#!/bin/sh
# drain.sh ENGINE PORT [SETTLE_SECONDS]: the preStop hook of a server that on SIGTERM stops answers midway.
# ENGINE is llama-server, router (llama-server in front of many models) or llama-swap.
# Waits until no node sends it requests any more and it has answered those that it has; the grace period bounds it.
# An answer that it does not understand is no reason to stop.
set -u
engine=$1
url=http://127.0.0.1:$2
settle=${3:-5}

case $engine in
    llama-server | router | llama-swap) ;;
    *)
        echo "drain.sh: the engine is llama-server, router or llama-swap, not $engine" >&2
        exit 2
        ;;
esac

idle() {
    status=$(curl -s -o /dev/null -m 30 -w '%{http_code}' "$url/health")
    [ $? -eq 7 ] && return 0        # it is gone
    [ "$status" = 503 ] && return 0 # it still loads its one model
    case $engine in
        llama-server) server_idle /metrics ;;
        router) router_idle ;;
        llama-swap) swap_idle ;;
    esac
}

# Nothing answered now and nothing waiting for a slot (/slots would not show the latter).
server_idle() {
    metrics=$(curl -s -f -m 30 "$url$1") || return 1
    zeros=$(printf '%s\n' "$metrics" | grep -c -x -e 'llamacpp:requests_processing 0' -e 'llamacpp:requests_deferred 0')
    [ "$zeros" -eq 2 ]
}

# Each model is a process of its own. One line of "status name" for each; any other line is one that was not understood.
router_idle() {
    listed=$(curl -s -f -m 30 "$url/v1/models") || return 1
    models=$(printf '%s\n' "$listed" | tr '{' '\n' |
        sed -n '/^"id":/{N;s/^"id":"\([A-Za-z0-9._-]*\)",.*\n"value":"\([a-z]*\)".*/\2 \1/;p;}')
    while read -r status name; do
        case $status in
            unloaded | sleeping) ;;
            loaded) server_idle "/metrics?model=$name&autoload=false" || return 1 ;;
            *) return 1 ;; # loading: somebody may wait for it
        esac
    done <<MODELS
$models
MODELS
}

# The stream of events begins with a snapshot of the requests in flight, and leaves "requests" out where there are none.
# One that waits for its model is among them: it is noted before a server is looked for (v250, internal/server/server.go).
swap_idle() {
    snapshot=$(curl -s -N -m 3 "$url/api/events" |
        sed -n '/^data:{"type":"inflight","data":"{\\"operation\\":\\"snapshot\\"/{p;q;}')
    [ "$snapshot" = 'data:{"type":"inflight","data":"{\"operation\":\"snapshot\"}"}' ]
}

sleep "$settle"
# two looks, lest a request is just between its connection and the queue
until idle && sleep 1 && idle; do
    sleep 1
done
