# Runs a server for the process at the other end of standard input, and ends it with that process,
# however that one ends: then the pipe is at its end. It is in a process group of its own, so that
# an interrupt at the terminal does not reach it.
#
# keeper.sh FOLDER SIGNAL PROGRAM [ARGUMENT...]
# Orders, a line each, answered with the same line: start, stop, pause, resume.
folder=$1 signal=$2
shift 2
server=

start() {
    : >"$folder/log" # now, and not when the server comes to it: the log is read for failures
    "$@" </dev/null >>"$folder/log" 2>&1 &
    server=$!
}

stop() {
    [ -n "$server" ] || return
    kill -s "$signal" "$server" 2>/dev/null
    kill -s CONT "$server" 2>/dev/null
    tries=0
    while kill -0 "$server" 2>/dev/null && [ "$tries" -lt 100 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
    kill -s KILL "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}

while read -r order; do
    case $order in
        start)
            stop # or one that still runs would have no keeper
            start "$@"
            ;;
        stop) stop ;;
        pause) kill -s STOP "$server" ;;
        resume) kill -s CONT "$server" ;;
    esac
    echo "$order"
done
stop
rm -rf "$folder"
