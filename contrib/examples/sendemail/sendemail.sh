#!/bin/sh
# Sends one e-mail through SendGrid's v3 mail/send.
#
#   PAYLOAD_FILE      {"to": "...", "subject": "...", "text": "...", "from": "..." (optional)}
#   RESULT_FILE       gets {"status": 202, "message_id": "..."}
#   SENDGRID_API_KEY  a secret; it goes through a pipe and never onto a command line, where
#                     every user of the host could read it
#   SENDGRID_URL      default https://api.sendgrid.com/v3/mail/send
#   SENDGRID_FROM     the sender where the payload names none
#
# Exit status: 0 accepted; 65 bad payload; 69 unreachable; 75 try again (429, 5xx); 77 not let in;
# 78 bad configuration; 1 refused otherwise.
# Needs sh, awk and nc (busybox has all three) or curl, and curl for an https address: busybox's own
# TLS does not check certificates, and a key is not sent to whoever answers.
set -u

end() { status=$1; shift; echo "sendemail: $*" >&2; exit "$status"; }

url=${SENDGRID_URL:-https://api.sendgrid.com/v3/mail/send}
export SENDGRID_FROM="${SENDGRID_FROM:-jobd@localhost}"
[ -n "${SENDGRID_API_KEY:-}" ] || end 78 "SENDGRID_API_KEY is not set: register the job with --secret"
case $SENDGRID_API_KEY in *[!A-Za-z0-9._-]*) end 78 "SENDGRID_API_KEY has characters no key has" ;; esac
case $SENDGRID_FROM in *[!A-Za-z0-9.@_+-]*) end 78 "SENDGRID_FROM is not a plain address" ;; esac
[ -r "${PAYLOAD_FILE:-}" ] || end 65 "no payload: queue the run with one"

here=${SENDEMAIL_DIR:-$(dirname "$0")}
work=$(mktemp -d) || end 70 "no place for temporary files"
trap 'rm -rf "$work"' EXIT

# LC_ALL=C: the text is bytes to us, and is counted in bytes
LC_ALL=C awk -f "$here/body.awk" "$PAYLOAD_FILE" >"$work/body" || exit 65
length=$(wc -c <"$work/body")
length=$((length))
echo "sendemail: posting $length bytes to $url, attempt ${ATTEMPT:-1}"

by_curl() {
    printf 'header = "Authorization: Bearer %s"\n' "$SENDGRID_API_KEY" \
        | curl --silent --show-error --max-time 30 --config - --header 'Content-Type: application/json' \
            --data-binary "@$work/body" --dump-header "$work/head" --output "$work/answer" "$url" \
        || end 69 "$url: no answer"
}

by_nc() {
    rest=${url#http://}
    hostport=${rest%%/*}
    path=${rest#"$hostport"}
    host=${hostport%%:*}
    port=${hostport##*:}
    [ "$port" != "$hostport" ] || port=80
    {
        printf 'POST %s HTTP/1.0\r\nHost: %s\r\n' "${path:-/}" "$hostport"
        printf 'Authorization: Bearer %s\r\n' "$SENDGRID_API_KEY"
        printf 'Content-Type: application/json\r\nContent-Length: %s\r\nConnection: close\r\n\r\n' "$length"
        cat "$work/body"
    } | nc -w 30 "$host" "$port" >"$work/whole" || end 69 "$url: no answer"
    [ -s "$work/whole" ] || end 69 "$url: connection closed without an answer"
    awk -v head="$work/head" -v body="$work/answer" \
        '!inside && /^\r?$/ { inside = 1; next } { print >(inside ? body : head) }' "$work/whole"
}

case $url in
    https://*)
        command -v curl >/dev/null \
            || end 78 "$url: https needs curl in the image, as busybox does not check certificates"
        by_curl ;;
    http://*) if command -v nc >/dev/null; then by_nc; else by_curl; fi ;;
    *) end 78 "$url: expected http:// or https://" ;;
esac

code=$(awk 'NR == 1 { print $2 }' "$work/head")
message=$(awk 'tolower($1) == "x-message-id:" { sub(/\r$/, ""); print $2 }' "$work/head")
case $message in *[!A-Za-z0-9._-]*) message= ;; esac

case $code in
    202)
        echo "sendemail: accepted, message id ${message:-unknown}"
        [ -z "${RESULT_FILE:-}" ] \
            || printf '{"status": 202, "message_id": "%s"}\n' "$message" >"$RESULT_FILE"
        exit 0 ;;
    401 | 403) status=77 ;;
    429 | 5??) status=75 ;;
    *) status=1 ;;
esac
[ ! -s "$work/answer" ] || head -c 1000 "$work/answer" >&2
echo >&2
end "$status" "$url: refused with HTTP status ${code:-none}"
