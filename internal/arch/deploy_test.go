package arch_test

import (
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const configSource = "cmd/worker/config.go"

// The files that hold the secrets stay on their machine.
func TestSecretsAreIgnored(t *testing.T) {
	t.Parallel()
	if !regexp.MustCompile(`(?m)^/deploy/secrets/$`).MatchString(read(t, ".gitignore")) {
		t.Error(".gitignore does not list /deploy/secrets/")
	}
}

// instructions returns the arguments of a Dockerfile's last stage by
// instruction. Continued lines are joined.
func instructions(t *testing.T) map[string][]string {
	t.Helper()
	text := strings.ReplaceAll(read(t, "Dockerfile"), "\\\n", " ")
	found := map[string][]string{}
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "" || word == "#" {
			continue
		}
		if word == "FROM" {
			clear(found)
		}
		found[word] = append(found[word], strings.TrimSpace(rest))
	}
	return found
}

func TestImage(t *testing.T) {
	t.Parallel()
	in := instructions(t)
	if user := in["USER"]; len(user) != 1 || !regexp.MustCompile(`^[1-9][0-9]*(:[1-9][0-9]*)?$`).MatchString(user[0]) {
		t.Errorf("USER %v: want one number other than 0, which Kubernetes can check", user)
	}
	if got := execForm(t, in["ENTRYPOINT"]); !slices.Equal(got, []string{"/worker"}) {
		t.Errorf("ENTRYPOINT %q, want the binary", got)
	}
	if got := execForm(t, in["CMD"]); !slices.Equal(got, []string{"serve"}) {
		t.Errorf("CMD %q, want serve", got)
	}
	if len(in["HEALTHCHECK"]) != 1 {
		t.Fatalf("HEALTHCHECK %v, want one", in["HEALTHCHECK"])
	}
	_, command, _ := strings.Cut(in["HEALTHCHECK"][0], "CMD ")
	if got := execForm(t, []string{command}); !slices.Equal(got, []string{"/worker", "healthcheck"}) {
		t.Errorf("HEALTHCHECK %q, want the program's own: the image has no other", got)
	}
	if !slices.Contains(in["VOLUME"], "/data") || !slices.Contains(in["ENV"], "SA_DATA_DIR=/data") {
		t.Errorf("VOLUME %v, ENV %v: want the data directory in a volume", in["VOLUME"], in["ENV"])
	}
}

// execForm reads the JSON form of a command: the image has no shell for the
// other one.
func execForm(t *testing.T, arguments []string) []string {
	t.Helper()
	var argv []string
	if len(arguments) != 1 {
		t.Fatalf("%v: want one command", arguments)
	}
	if err := json.Unmarshal([]byte(arguments[0]), &argv); err != nil {
		t.Fatalf("%s: want a JSON array: %v", arguments[0], err)
	}
	return argv
}

// settings returns the names of all settings, as the program's table has them.
func settings(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, match := range regexp.MustCompile(`env: "(SA_[A-Z0-9_]+)"`).FindAllStringSubmatch(read(t, configSource), -1) {
		names[match[1]] = true
	}
	if len(names) == 0 {
		t.Fatalf("%s has no table of settings any more: adapt this test", configSource)
	}
	return names
}

func TestDocumentsNameOnlySettingsThatExist(t *testing.T) {
	t.Parallel()
	known := settings(t)
	known["SA_CONFIG_FILE"] = true
	mention := regexp.MustCompile(`\bSA_[A-Z0-9_]*[A-Z0-9]\b`)
	walk(t, func(name string) {
		if ext := path.Ext(name); ext != ".md" && ext != ".yaml" && ext != ".sh" && name != "Dockerfile" && name != "Makefile" {
			return
		}
		for i, line := range strings.Split(read(t, name), "\n") {
			for _, variable := range mention.FindAllString(line, -1) {
				if !known[variable] && !known[strings.TrimSuffix(variable, "_FILE")] {
					t.Errorf("%s:%d: %s is no setting of %s", name, i+1, variable, configSource)
				}
			}
		}
	})
}

func TestReadmeNamesEverySetting(t *testing.T) {
	t.Parallel()
	readme := read(t, "README.md")
	for _, name := range slices.Sorted(maps.Keys(settings(t))) {
		if !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("README.md does not explain `%s`", name)
		}
	}
}

// Relative links of documents lead somewhere.
func TestDocumentsLinkToFilesThatExist(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	walk(t, func(name string) {
		if path.Ext(name) != ".md" {
			return
		}
		for _, match := range link.FindAllStringSubmatch(read(t, name), -1) {
			if strings.Contains(match[1], ":") {
				continue // a web or mail address
			}
			if target := path.Join(path.Dir(name), match[1]); !exists(target) {
				t.Errorf("%s links to %s, which is not there", name, match[1])
			}
		}
	})
}
