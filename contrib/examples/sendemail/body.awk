# Turns {"to": ..., "subject": ..., "text": ...} into the body of SendGrid's v3 mail/send.
#
# Strings are never decoded: the JSON literal of the payload, quotes and escapes and all, is copied
# into the body as it stands. So nothing can be escaped wrongly, whatever the text holds.
# Anything but a flat object of known names with string values is refused, with the place.

function refuse(what) {
    print "sendemail: payload: " what >"/dev/stderr"
    failed = 1
    exit 65
}

function blank() {
    while (at <= length(text) && index(" \t\r\n", substr(text, at, 1))) at++
}

function expect(mark) {
    blank()
    if (substr(text, at, 1) != mark)
        refuse("expected " mark " at byte " at " of " length(text))
    at++
}

# The string literal at `at`, with its quotes, checked as JSON wants it.
function literal(   from, c, next_c) {
    blank()
    from = at
    if (substr(text, at, 1) != "\"") refuse("expected a string at byte " at)
    for (at++; at <= length(text); at++) {
        c = substr(text, at, 1)
        if (c == "\"") {
            at++
            return substr(text, from, at - from)
        }
        if (index(control, c)) refuse("control character in a string at byte " at)
        if (c != "\\") continue
        next_c = substr(text, ++at, 1)
        if (next_c == "u") {
            if (substr(text, at + 1, 4) !~ /^[0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f]$/)
                refuse("bad \\u escape at byte " at)
            at += 4
        } else if (next_c == "" || !index("\"\\/bfnrt", next_c)) refuse("bad escape at byte " at)
    }
    refuse("a string does not end")
}

function need(name) {
    if (!(name in value)) refuse("no \"" name "\"")
    if (value[name] == "\"\"") refuse("\"" name "\" is empty")
    return value[name]
}

BEGIN {
    for (i = 1; i < 32; i++) control = control sprintf("%c", i)
    split("to subject text from", names, " ")
    for (i in names) known["\"" names[i] "\""] = names[i]
}

{ text = text (NR > 1 ? "\n" : "") $0 }

END {
    if (failed) exit 65
    at = 1
    expect("{")
    blank()
    while (substr(text, at, 1) != "}") {
        key = literal()
        if (!(key in known)) refuse("unknown name " key ": to, subject, text, from are known")
        if (known[key] in value) refuse(key " is there twice")
        expect(":")
        value[known[key]] = literal()
        blank()
        if (substr(text, at, 1) == "}") break
        expect(",")
        blank()
        if (substr(text, at, 1) == "}") refuse("a comma before } at byte " at)
    }
    at++
    blank()
    if (at <= length(text)) refuse("something after the object at byte " at)
    if (!("from" in value)) value["from"] = "\"" ENVIRON["SENDGRID_FROM"] "\""
    printf "{\"personalizations\":[{\"to\":[{\"email\":%s}]}],\"from\":{\"email\":%s}," \
        "\"subject\":%s,\"content\":[{\"type\":\"text/plain\",\"value\":%s}]}", \
        need("to"), need("from"), need("subject"), need("text")
}
