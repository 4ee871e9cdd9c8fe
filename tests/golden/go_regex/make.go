// Writes cases.jsonl: what Go's package regexp makes of many patterns. Run with `go run make.go > cases.jsonl`.
package main

import (
	"encoding/json"
	"math/rand"
	"os"
	"regexp"
	"strings"
)

type line struct {
	Pattern string   `json:"pattern"`
	Error   string   `json:"error,omitempty"`
	Match   string   `json:"match,omitempty"`    // for each text 1 or 0: some part of it matches
	Whole   string   `json:"whole,omitempty"`    // for each text 1 or 0: the whole of it matches
	Texts   []string `json:"replaced,omitempty"` // the texts with matches replaced; none where nothing matches
}

var texts = []string{
	"", "a", "A", "ab", "aab", "aaaa", "abc", "hall {cable 4}", "{}", "{a}", "a{2}", "a{,5}", "x{y", "a.b", "a-b", "a&&b",
	"[a]", "]", "^", "-", "\\", "~~", "\n", "a\nb", "\t ", "\v", "é", "É", "k", "\u212a", "ſ", "s", "0", "\u0663", "42",
	"foo_bar-1", "press-12:9100", "Σ", "ς", "\u00a0", "word boundary", "naïve", "x\u0000y", "日本", "#1 a b", "a b", "Q+E", "$1",
}

var patterns = []string{
	"hall {.*}", " {.*}$", "(.*) {.*}", "{", "}", "{}", "a{", "a{}", "a{,5}", "a{2}", "a{2,}", "a{2,3}", "a{2,1}", "a{1001}", "a{1000}",
	"(a{100}){100}", "(a{30}){30}", "((a{10}){10}){10}", "((a{10}){10}){11}", "a{02}", "a{2 }", "a{2,3,4}", "a{99999999999}", "{2}", "x{y", "a{2}{3}", "a{2}?", "a{2}??",
	"a**", "a*+", "a+*", "a??", "a???", "*", "+a", "?", "|*", "a|*", "(*)", "(|a)*", "^*", "$*", "(?i)*", "a(?i)*", "a(?i)b", "()", "()*",
	"(", ")", "(a", "a)", "(?:a", "(?", "(?i", "(?i:", "(?)", "(?-)", "(?i-)", "(?i-s)A.", "(?-i)a", "(?x)a b", "(?u)a", "(?R)a", "(?#c)a", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)",
	"(?P<n>a)", "(?<n>a)b", "(?P<n>a)(?P<n>b)", "(?P<1>a)", "(?P<n", "(?P<>a)", "(?P<n-m>a)", "(?P=n)", "(?P<_x9>.)", "(?'n'a)",
	"(?i)k", "(?i)\\w", "(?i)\\W", "(?i)[k]", "(?i)[^k]", "(?i)[[:word:]]", "(?i)é", "(?i)σ", "(?i)S", "(?s).", ".", "(?m)^b", "(?m)a$", "(?U)a+", "(?U)a+?", "(?is)A.B", "(?i:A)b",
	"\\d", "\\D", "\\w+", "\\W", "\\s", "\\S", "\\bb", "\\Ba", "\\b", "\\B", "na\\b", "\\A\\w", "\\w\\z", "\\Z", "\\C", "\\G", "\\K", "\\R", "\\X", "\\h", "\\e", "\\_", "\\-", "\\/", "\\ ", "\\#", "\\&", "\\~", "\\<", "\\>", "\\é", "\\a", "\\f", "\\n", "\\r", "\\t", "\\v", "\\0", "\\07", "\\1", "\\8", "\\12", "\\141", "\\x", "\\x4", "\\x41", "\\x{41}", "\\x{110000}", "\\x{}", "\\x{zz}", "\\x{d800}", "\\u0041", "\\cA", "\\",
	"\\Qa.b\\E", "\\Q{}", "\\Qa{2}\\E", "\\Q+\\E", "\\QQ+\\E+", "\\Q\\E", "\\Q\\", "\\E", "a\\E", "\\Qa\\Eb\\Q-\\E",
	"\\pN", "\\pL+", "\\PL", "\\p{L}", "\\p{^L}", "\\P{^L}", "\\p{Greek}", "\\p{Lu}", "\\p{greek", "\\p", "\\p{}", "\\p{Foo}", "\\pX", "\\p{Nd}", "[\\p{Lu}0]", "[^\\pN]", "[\\P{L}]",
	"[[:word:]]", "[[:^word:]]", "[^[:word:]]", "[[:alpha:][:digit:]]", "[[:foo:]]", "[:word:]", "[[:word]", "[[:ascii:]]", "[[:^ascii:]]", "[[:space:]]", "[[:punct:]]", "[[:alpha:]-z]", "[a-[:word:]]",
	"[]", "[]a]", "[^]a]", "[^]", "[", "[a", "[a-", "[a-]", "[-a]", "[--a]", "[a--]", "[z-a]", "[a-z-9]", "[a-\\d]", "[\\d-a]", "[\\d]", "[\\D]", "[^\\D]", "[\\w-]", "[\\W\\s]", "[^\\s]", "[\\b]", "[\\z]", "[\\Q]", "[\\n]", "[\\]]", "[\\[]", "[\\-]", "[\\x41-\\x43]", "[\\x{61}]", "[\\101]",
	"[{]", "[}]", "[{}]+", "[&&]", "[a&&b]", "[a--b]", "[a~~b]", "[a[b]", "[[a]]", "[a[^b]]", "[[]", "[#]", "[ ]", "[^\\x00-\\x{10FFFF}]", "[\\x{d7ff}-\\x{e000}]", "[.^$*+?()|]", "[^^]", "[a^]", "[é-ü]",
	"a b", "#", "a #b", "a|b|", "|a", "||", "a.b", "^a", "b$", "^$", "a$b", "a^b", "x\\x00y", "日+", "[日本]+", "\\$1", "(a)(b)?(c)?", "(.)(.)", "(?P<first>.).*(?P<last>.)", "$", "^",
	"press-(\\d+)(?::\\d+)?", "([^:]+):.*", "(.+)-[a-z0-9]{5,10}", "[a-z]{1,3}_.+", "~\"x\"", "/dev/(sd|vd)[a-z]+", "node-exporter.*", "prometheus-.*|alertmanager-.+", ".+\\.slice", "^(?:a|b)$", "(?i:warn|crit)", "5..", "4[0-9]{2}", "[^/]*", "\\{.*\\}", "\\{[^}]*}", "${HOME}", "%{x}", "{{.*}}", "{{ \\$labels }}",
}

var pieces = []string{
	"a", "b", "é", ".", "^", "$", "*", "+", "?", "{", "}", "{2}", "{1,2}", "{,2}", ",", "(", ")", "(?:", "(?i)", "(?i:", "(?s)", "(?U)", "|", "[", "]", "[^", "-", "&&", "~~", "--",
	"\\d", "\\w", "\\s", "\\W", "\\b", "\\B", "\\Q", "\\E", "\\pL", "\\x41", "\\.", "\\{", "[:word:]", "[[:alpha:]]", "#", " ", "k", "1", "\\", "a-c", "[a-c]", "(a)", "(?P<n>b)", "\\1", "\n",
}

func one(pattern string) line {
	out := line{Pattern: pattern}
	re, err := regexp.Compile(pattern)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	whole, err := regexp.Compile("^(?s:" + pattern + ")$")
	var match, all strings.Builder
	for _, text := range texts {
		bit := map[bool]string{true: "1", false: "0"}
		match.WriteString(bit[re.MatchString(text)])
		if err == nil { // not with an open \Q
			all.WriteString(bit[whole.MatchString(text)])
		}
		if re.MatchString(text) && text != "" {
			out.Texts = append(out.Texts, re.ReplaceAllString(text, "<$0|${1}>"))
		}
	}
	out.Match, out.Whole = match.String(), all.String()
	return out
}

func main() {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.Encode(texts)
	random := rand.New(rand.NewSource(12))
	for range 700 {
		var made strings.Builder
		for range 1 + random.Intn(6) {
			made.WriteString(pieces[random.Intn(len(pieces))])
		}
		patterns = append(patterns, made.String())
	}
	seen := map[string]bool{}
	for _, pattern := range patterns {
		if !seen[pattern] {
			seen[pattern] = true
			encoder.Encode(one(pattern))
		}
	}
}
