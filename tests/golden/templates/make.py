"""Writes cases.jsonl: what promtool makes of templates. Run with `python3 make.py > cases.jsonl`.

Each template is the annotation of an alarm about the series x{device="press-1", line="a.b:80", empty_like="", n="42"}
with the value of the case, at the time 120 s. Beside it stands what `promtool check rules` says of it."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

VALUE = "1234.5"
TEMPLATES = r"""
{{ $labels.device }}|{{ .Labels.device }}|{{ $value }}|{{ .Value }}|{{ $labels.nothing }}|{{ $externalLabels.site }}|{{ $externalURL }}
{{ humanize $value }} {{ humanize1024 $value }} {{ humanizeDuration $value }} {{ humanizePercentage $value }} {{ humanizeTimestamp $value }}
{{ humanize "12e9" }} {{ humanize "x" }}
{{ $value | toTime }} {{ (toTime $value).Format "2006-01-02T15:04:05Z07:00" }}
{{ (toTime 1700000000.25).Format "Mon Jan _2 3:04:05.000 PM 06 -0700 MST Monday January 002 .99 1/2" }}
{{ (toTime $value).Year }} {{ (toTime $value).Month }} {{ (toTime $value).Weekday }} {{ (toTime $value).Unix }} {{ (toTime $value).Hour }}
{{ with toTime $value }}{{ .Format "15:04" }} {{ .UTC.Day }} {{ .YearDay }}{{ end }}
{{ (toTime $value).Nothing }}
{{ (toTime $value).Format }}
{{ (toTime $value).Format 5 }}
{{ $value | toTime | printf "%v" }}
{{ title "hello don't wORLD foo-bar a.b" }} {{ toUpper "abc" }} {{ toLower "ABC" }}
{{ reReplaceAll "press-(\\d+)" "no. $1" $labels.device }} {{ reReplaceAll "{.*}" "-" "a{b}c" }} {{ reReplaceAll `(?P<x>\w)` "${x}." "ab" }}
{{ match "^press" $labels.device }} {{ match "x{" "x{y" }}
{{ reReplaceAll "(" "" "a" }}
{{ match "[" "a" }}
{{ stripPort "[::1]:80" }} {{ stripPort "a:80" }} {{ stripPort "a" }} {{ stripDomain "a.b.c:80" }} {{ stripDomain "10.0.0.1:80" }} {{ stripDomain "a.b" }}
{{ parseDuration "1h30m" }} {{ parseDuration "5x" }}
{{ printf "%d|%5.1f|%-6s|%v|%q|%x|%t|%+d|%06.2f|%.3g|%e|%c|%U|%X" 5 $value "ab" $value "q\"" 255 true 7 $value $value $value 65 0x1F600 "hi" }}
{{ printf "%s %d %v" $value $value nil }}
{{ printf "%[2]s-%[1]s" "a" "b" }} {{ printf "%s" }} {{ printf "x" 1 }} {{ printf "100%%" }} {{ printf "%.2f%%" $value }} {{ printf "%!" }}
{{ print 1 2 "a" 3 4 }}|{{ println "a" 1 }}|{{ print "a" "b" }}
{{ html "<a href='x'>&\"" }} {{ js "it's <b> = \"x\" \\" }} {{ urlquery "a b&c/d" }}
{{ safeHtml "<b>" }} {{ graphLink "up > 1" }} {{ tableLink "up > 1" }}
{{ if gt $value 1000.0 }}high{{ else if gt $value 5.0 }}middle{{ else }}low{{ end }}
{{ if eq $labels.device "press-1" "press-2" }}yes{{ end }}{{ if ne $labels.device "x" }}ne{{ end }}{{ if not false }}not{{ end }}
{{ if and (gt $value 1.0) (lt $value 3e9) }}in{{ end }}{{ or "" "b" }}{{ and "a" "" }}|
{{ if eq $labels.device 5 }}x{{ end }}
{{ lt "a" "b" }} {{ le 1 1 }} {{ ge 1.5 2.5 }} {{ eq true true }} {{ eq 1 2 1 }}
{{ with $labels.nothing }}a{{ else }}b{{ end }}{{ with $labels.device }}{{ . }}{{ end }}
{{ with $x := $labels.device }}{{ $x }}{{ . }}{{ end }}
{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}{{ range $labels }}{{ . }},{{ end }}
{{ range $k, $v := $labels }}{{ if eq $k "device" }}{{ continue }}{{ end }}{{ $k }}{{ break }}{{ end }}
{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}
{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}
{{ if $y := $labels.device }}{{ $y }}{{ end }}
{{ if $y := $labels.device }}a{{ end }}{{ $y }}
{{ $label.device }}
{{ $nothing }}
{{ $x = 5 }}
{{ value }}
{{ labels.device }}
{{ unknown 1 }}
{{ .Nothing }}
{{ .labels.device }}
{{ $value.x }}
{{ $labels.device.x }}
{{ with $labels.device }}{{ .Labels.device }}{{ end }}
{{ toUpper $value }}
{{ toUpper }}
{{ toUpper "a" "b" }}
{{ humanize }}
{{ "a" | toUpper | printf "%s-%s" "x" }}
{{ ("a" | toUpper) }}{{ (index $labels "device") }}{{ index $labels "nothing" }}{{ len $labels }}{{ len "abc" }}{{ slice "abcdef" 1 3 }}
{{ len 5 }}
{{ index 5 1 }}
{{ index "abc" 1 }}
a {{- /* gone */ -}} b {{- "c" }}  {{ "d" -}}   e
{{/* a comment */}}x
{{ /* no comment */ }}x
{{- " a" -}}
{{ `raw \n text` }} {{ "tab\tquote\" \u00e9 \x41" }} {{ 'x' }} {{ 1_000 }} {{ 0x1F }} {{ 1e3 }} {{ .5 }} {{ -3 }}
{{ define "t" }}[{{ .Labels.device }}]{{ end }}{{ template "t" . }}
{{ define "t" }}[{{ . }}]{{ end }}{{ template "t" $labels.device }}
{{ define "t" }}{{ $labels.device }}{{ end }}{{ template "t" . }}
{{ block "t" $value }}<{{ . }}>{{ end }}
{{ template "nothing" . }}
{{ range $value }}x{{ end }}
{{ range "abc" }}x{{ end }}
{{ break }}
{{ end }}
{{ else }}
{{ if true }}
{{ if }}x{{ end }}
{{ with }}x{{ end }}
{{ range }}x{{ end }}
{{ if true }}a{{ else }}b{{ else }}c{{ end }}
{{ $value
{{ }}
{{ "a
{{ ( $value }}
{{ $value ) }}
{{ $value | "a" }}
{{ $value | }}
{{ | $value }}
{{ 1 2 }}
{{ "a" "b" }}
{{ $value 5 }}
{{ nil }}
{{ true }} {{ false }}
{{ call 1 }}
{{ tmpl "a" . }}
{{ query "x" | first | value }} {{ query "x" | first | label "device" }} {{ len (query "x") }}
{{ range query "x" }}{{ .Labels.device }}:{{ .Value }};{{ end }}
{{ range $i, $s := query "x or y" | sortByLabel "device" }}{{ $i }}{{ $s.Labels.device }} {{ end }}
{{ with query "nothing" }}some{{ else }}none{{ end }}
{{ query "nothing" | first | value }}
{{ with printf "x{device='%s'}" $labels.device | query }}{{ . | first | value | humanize }}{{ end }}
{{ query "x + " }}
{{ query "time()" | first | value }} {{ query "scalar(x)" | first | value }}
{{ query (printf "max_over_time(x[%s])" "2m") | first | value }}
{{ (query "x" | first).Labels.device }} {{ (index (query "x") 0).Value }}
{{ first $labels }}
{{ value $value }}
{{ label "device" $labels }}
{{ (args 1 "a" $value).arg1 }} {{ with args $labels.device $value }}{{ .arg0 }}-{{ .arg1 }}{{ end }}
{{ strvalue (query "x" | first) }}|
{{ $labels }}
{{ .Labels.device | title | reReplaceAll "-" " " }}
{{ $labels.n | humanize }} {{ $labels.device | humanize }}
{{ printf "%.0f" ($value | printf "%f" | humanize) }}
{{ if match "(?i)PRESS" .Labels.device }}{{ .Value | printf "%.2f" }}{{ end }}
{{ eq .Labels.device $labels.device }} {{ gt (len .Labels.device) 3 }}
{{ $x := query "x" }}{{ range $x }}{{ .Value }}{{ end }}{{ $x | first | value }}
{{ not }} 
{{ eq 1 }}
{{ and }}
{{ $labels.device | $value }}
{{ $.Labels.device }}{{ with "a" }}{{ $.Value }}{{ end }}
{{ printf "%5d|%-5d|%05d|%x|%o|%b" 42 42 42 42 8 5 }}
{{ printf "%t %v %q" true false `a"b` }}
{{ printf "%6.2f|%-8.3f|%+.1f|% d" 3.14159 2.5 1.25 7 }}
{{if true}}x{{end}}{{-  "y"  -}} 
{{ with $v := $value }}{{ printf "%.1f" $v }}{{ else }}zero{{ end }}
{{ range $i, $e := query "y" }}{{ if $i }}, {{ end }}{{ $e.Labels.device }}{{ end }}
{{ $value | humanizePercentage }} {{ -0.5 | humanizePercentage }} {{ 0 | humanize }} {{ 90061 | humanizeDuration }} {{ 0.0005 | humanizeDuration }} {{ -75.5 | humanizeDuration }}
{{ "2006" | toTime }} {{ toTime "x" }}
{{ 1e30 | toTime }}
{{ humanizeTimestamp 1e30 }}
{{ "NaN" | humanize }} {{ "NaN" | humanize1024 }} {{ "Inf" | humanizeDuration }} {{ "NaN" | humanizePercentage }} {{ "-Inf" | humanizePercentage }} {{ "+Inf" | humanizeTimestamp }}
""".strip("\n").split("\n")


def quoted(text):
    return json.dumps(text, ensure_ascii=True)


def rules(templates):
    lines = ["groups:", "- name: g", "  rules:"]
    for number, template in templates:
        lines.append(f"  - {{ alert: A{number}, expr: x, annotations: {{ t: {quoted(template)} }} }}")
    return "\n".join(lines) + "\n"


def checked(template):
    """What promtool says of it: nothing when it takes it."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "r.yml"
        path.write_text(rules([(0, template)]))
        found = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
        if found.returncode == 0:
            return None
        return re.sub(r".*template: __alert_A0:\d+:(?:\d+:)? ?", "", found.stderr.strip().split("\n")[-1])


def filled(templates):
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "r.yml").write_text(rules(templates))
        labels = 'device="press-1", line="a.b:80", n="42"'
        tests = ["rule_files: [r.yml]", "tests:", "- interval: 1m", "  external_labels: { site: lyon }",
                 "  external_url: http://gw.example/lineside", "  input_series:",
                 f"  - {{ series: 'x{{{labels}}}', values: '{VALUE}x5' }}",
                 "  - { series: 'y{device=\"b\"}', values: '7x5' }", "  - { series: 'y{device=\"a\"}', values: '8x5' }",
                 "  alert_rule_test:"]
        tests += [f"  - {{ eval_time: 2m, alertname: A{number}, exp_alerts: [] }}" for number, _ in templates]
        (Path(scratch) / "t.yml").write_text("\n".join(tests) + "\n")
        found = subprocess.run(["promtool", "test", "rules", "t.yml"], capture_output=True, text=True, cwd=scratch)
        pattern = r'alertname: A(\d+), time: 2m, ?\n\s+exp:\[\s*\],?\s*\n\s+got:\[\s*\n\s+0:\s*\n\s+Labels:.*\n\s+Annotations:\{t=("(?:[^"\\]|\\.)*")\}'
        return {int(number): go_unquoted(text) for number, text in re.findall(pattern, found.stderr + found.stdout)}


def go_unquoted(text):
    return json.loads(re.sub(r"\\x(..)", r"\\u00\1", text).replace("\\a", "\\u0007").replace("\\v", "\\u000b"))


accepted, cases = [], []
for number, template in enumerate(TEMPLATES):
    refusal = checked(template)
    if refusal is None:
        accepted.append((number, template))
    else:
        cases.append({"template": template, "refused": refusal})
texts = filled(accepted)
for number, template in accepted:
    if number not in texts:
        sys.exit(f"promtool says nothing of {template!r}")
    text = re.sub(r"^<error expanding template: error executing template __alert_A\d+: template: __alert_A\d+:\d+:\d+: ", "<error: ", texts[number])
    cases.append({"template": template, "text": text})
for case in cases:
    print(json.dumps(case, ensure_ascii=False))
