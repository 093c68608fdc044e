package arch_test

import (
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const configSource = "cmd/worker/config.go"

// service is a service of compose.yaml, as far as these tests look at it.
type service struct {
	Image       string
	Command     []string
	Environment map[string]string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck struct{ Test []string }
	Ports       []string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
}

func services(t *testing.T) map[string]service {
	t.Helper()
	var compose struct{ Services map[string]service }
	if err := yaml.Unmarshal([]byte(read(t, "compose.yaml")), &compose); err != nil {
		t.Fatalf("compose.yaml: %v", err)
	}
	return compose.Services
}

func TestComposeWorkerIsConfined(t *testing.T) {
	t.Parallel()
	w := services(t)["worker"]
	if !w.ReadOnly || !slices.Contains(w.CapDrop, "ALL") || !slices.Contains(w.SecurityOpt, "no-new-privileges:true") {
		t.Errorf("worker: read_only %t, cap_drop %v, security_opt %v; want all three", w.ReadOnly, w.CapDrop, w.SecurityOpt)
	}
	for _, server := range []string{"redis", "postgres"} {
		if w.DependsOn[server].Condition != "service_healthy" {
			t.Errorf("worker starts before %s is healthy", server)
		}
		if len(services(t)[server].Healthcheck.Test) == 0 {
			t.Errorf("%s has no health check", server)
		}
	}
}

func TestComposeRedisKeepsItsKeys(t *testing.T) {
	t.Parallel()
	command := strings.Join(services(t)["redis"].Command, " ")
	for _, option := range []string{"--maxmemory-policy noeviction", "--appendonly yes"} {
		if !strings.Contains(command, option) {
			t.Errorf("redis: %q lacks %s", command, option)
		}
	}
}

func TestComposeHoldsNoSecretAndOpensNoPort(t *testing.T) {
	t.Parallel()
	fromOutside := regexp.MustCompile(`\$\{[A-Z0-9_]+:(\?[^}]+|-)\}`)
	for name, s := range services(t) {
		if len(s.Ports) > 0 {
			t.Errorf("%s opens %v", name, s.Ports)
		}
		for variable, value := range s.Environment {
			secret := regexp.MustCompile(`PASSWORD|KEY|TOKEN|DATABASE__URL`).MatchString(variable)
			if secret && !fromOutside.MatchString(value) {
				t.Errorf("%s: %s must come from outside, as ${NAME:?...} or ${NAME:-}", name, variable)
			}
		}
	}
}

// The file that holds the secrets stays on its machine.
func TestSecretsFileIsIgnored(t *testing.T) {
	t.Parallel()
	if !regexp.MustCompile(`(?m)^/?\.env$`).MatchString(read(t, ".gitignore")) {
		t.Error(".gitignore does not list /.env")
	}
	for line := range strings.Lines(read(t, ".env.example")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") && value != "" {
			t.Errorf(".env.example gives %s a value", name)
		}
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
	if len(in["HEALTHCHECK"]) != 1 {
		t.Fatalf("HEALTHCHECK %v, want one", in["HEALTHCHECK"])
	}
	_, command, _ := strings.Cut(in["HEALTHCHECK"][0], "CMD ")
	if got := execForm(t, []string{command}); len(got) == 0 || got[0] != "/worker" {
		t.Errorf("HEALTHCHECK %q: the image has no other program than /worker", got)
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

// arriving are settings that documents name already and that come with the HTTP
// server: DELETE this list with its use when settings() has them.
func arriving() []string { return []string{"SA_HTTP__ADDR", "SA_HTTP__TOKEN", "SA_HTTP__HOSTS"} }

func TestDocumentsNameOnlySettingsThatExist(t *testing.T) {
	t.Parallel()
	known := settings(t)
	known["SA_CONFIG_FILE"] = true
	for _, name := range arriving() {
		known[name] = true
	}
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
