package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const deploy = "../../deploy/"

func readDeploy(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(deploy + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// checkCommand holds the arguments of a call of the program against its commands
// and flags.
func checkCommand(args []string) error {
	a := &app{}
	root := a.rootCommand()
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if cmd == root && len(args) > 0 {
		return fmt.Errorf("no command in %q", args)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if cmd.Args == nil {
		return nil
	}
	return cmd.Args(cmd, cmd.Flags().Args())
}

// checkEnvironment loads a configuration as the program would: names that do not
// exist and values that cannot be meant are errors. Secrets are read from a file
// of the test.
func checkEnvironment(t *testing.T, env map[string]string) error {
	t.Helper()
	known, environ, problems := map[string]bool{}, []string{}, []error{}
	for _, s := range settings() {
		known[s.env] = true
		known[s.env+"_FILE"] = s.secret
	}
	file := filepath.Join(t.TempDir(), "secret")
	for name, value := range env {
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		if !known[name] {
			problems = append(problems, fmt.Errorf("%s is no setting", name))
		}
		if plain, isFile := strings.CutSuffix(name, "_FILE"); isFile {
			value = file
			content := cmp.Or(map[string]string{
				"SA_REDIS__URL": "redis://h:1/0", "SA_DATABASE__URL": "postgres://h/d", "SA_ALARM__WEBHOOK_URL": "https://h/", "SA_ALARM__HEARTBEAT_URL": "https://h/",
			}[plain], strings.Repeat("k", 32))
			if err := os.WriteFile(file+plain, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			value += plain
		}
		environ = append(environ, name+"="+value)
	}
	_, err := loadConfig("", environ)
	return errors.Join(append(problems, err)...)
}

// composeService is a service of compose.yaml, as far as these tests look at it.
type composeService struct {
	Image       string
	Command     []string
	User        string
	Environment map[string]string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck struct {
		Test    []string
		Disable bool
	}
	Ports, Secrets, Tmpfs []string
	ReadOnly              bool     `yaml:"read_only"`
	CapDrop               []string `yaml:"cap_drop"`
	SecurityOpt           []string `yaml:"security_opt"`
	MemLimit              string   `yaml:"mem_limit"`
	Cpus                  float64
	PidsLimit             int `yaml:"pids_limit"`
	Volumes               []string
}

type composeFile struct {
	Services map[string]composeService
	Secrets  map[string]struct{ File string }
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	var c composeFile
	if err := yaml.Unmarshal(readDeploy(t, "compose.yaml"), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposeIsConfined(t *testing.T) {
	t.Parallel()
	c := readCompose(t)
	if len(c.Services) != 4 {
		t.Fatalf("%d services", len(c.Services))
	}
	for name, s := range c.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || len(s.Tmpfs) == 0 {
			t.Errorf("%s: read_only %t, cap_drop %v, security_opt %v, tmpfs %v; want all", name, s.ReadOnly, s.CapDrop, s.SecurityOpt, s.Tmpfs)
		}
		if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(s.User) {
			t.Errorf("%s: user %q, want numbers other than 0", name, s.User)
		}
		if s.MemLimit == "" || s.Cpus == 0 || s.PidsLimit == 0 {
			t.Errorf("%s: mem_limit %q, cpus %v, pids_limit %d: want all three", name, s.MemLimit, s.Cpus, s.PidsLimit)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to others", name, port)
			}
		}
		for variable, value := range s.Environment {
			if regexp.MustCompile(`PASSWORD$|KEY$|TOKEN$|__URL$`).MatchString(variable) {
				t.Errorf("%s: %s=%s: a secret belongs in a file", name, variable, value)
			}
			if path, found := strings.CutPrefix(value, "/run/secrets/"); found && !slices.Contains(s.Secrets, path) {
				t.Errorf("%s: %s: the secret %s is not mounted", name, variable, path)
			}
		}
		for _, secret := range s.Secrets {
			if c.Secrets[secret].File != "./secrets/"+secret {
				t.Errorf("%s: secret %s is the file %q", name, secret, c.Secrets[secret].File)
			}
		}
	}
}

func TestComposeCallsTheProgramAsItIs(t *testing.T) {
	t.Parallel()
	standard := regexp.MustCompile(`\$\{\w+:-([^}]*)\}`)
	calls := 0
	for name, s := range readCompose(t).Services {
		if s.Image != "alpha-oracle/worker" {
			continue
		}
		calls++
		if err := checkCommand(s.Command); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		env := map[string]string{}
		for variable, value := range s.Environment {
			env[variable] = standard.ReplaceAllString(value, "$1")
		}
		if err := checkEnvironment(t, env); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if calls != 2 {
		t.Errorf("%d services call the program", calls)
	}
}

func TestComposeOrderAndRedis(t *testing.T) {
	t.Parallel()
	s := readCompose(t).Services
	for _, test := range []struct{ who, what, condition string }{
		{"worker", "redis", "service_healthy"}, {"worker", "migrate", "service_completed_successfully"}, {"migrate", "postgres", "service_healthy"},
	} {
		if got := s[test.who].DependsOn[test.what].Condition; got != test.condition {
			t.Errorf("%s starts when %s is %q, want %s", test.who, test.what, got, test.condition)
		}
	}
	for _, server := range []string{"redis", "postgres"} {
		if len(s[server].Healthcheck.Test) == 0 {
			t.Errorf("%s has no health check", server)
		}
	}
	command := strings.Join(s["redis"].Command, " ")
	for _, option := range []string{"--maxmemory-policy noeviction", "--appendonly yes", "--aclfile /run/secrets/users.acl"} {
		if !strings.Contains(command, option) {
			t.Errorf("redis: %q lacks %s", command, option)
		}
	}
	if s["worker"].Environment["SA_DATABASE__MIGRATE"] != "false" || s["worker"].Healthcheck.Disable {
		t.Errorf("worker: %+v", s["worker"])
	}
}

// The secrets that the script makes fit together, and a second call keeps them.
func TestSecretsScript(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "secrets")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var before string
	for range 2 {
		if out, err := exec.CommandContext(t.Context(), "bash", deploy+"secrets.sh", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if before != "" && before != read("redis_password")+read("users.acl")+read("database_url_run") {
			t.Error("a second call changes secrets")
		}
		before = read("redis_password") + read("users.acl") + read("database_url_run")
	}
	for name := range readCompose(t).Secrets {
		if content := read(name); content == "" && !slices.Contains([]string{"alpha_vantage_api_key", "alarm_webhook_url", "alarm_heartbeat_url"}, name) {
			t.Errorf("%s is empty", name)
		}
	}
	password := read("redis_password")
	if len(password) != 32 || password == read("http_token") {
		t.Errorf("password %q", password)
	}
	if !strings.Contains(read("users.acl"), fmt.Sprintf("user worker on #%x ", sha256.Sum256([]byte(password)))) {
		t.Error("users.acl has not the hash of redis_password")
	}
	for file, user := range map[string]string{"redis_url": "worker", "database_url_run": "worker_run", "database_url_migrate": "worker_migrate"} {
		u, err := url.Parse(read(file))
		if err != nil {
			t.Fatal(err)
		}
		want := password
		if user != "worker" {
			want = read(user + "_password")
		}
		if got, _ := u.User.Password(); u.User.Username() != user || got != want {
			t.Errorf("%s: user %s and another password than that of the server", file, u.User.Username())
		}
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v: want a directory for its owner alone", info.Mode(), err)
	}
}

// The script of the database's container gives each role the password of its file.
func TestRolesScript(t *testing.T) {
	t.Parallel()
	r := restricted{owner: newRestricted(t).owner}
	dir := t.TempDir()
	for _, role := range []string{"worker_migrate", "worker_run", "worker_read"} {
		if err := os.WriteFile(filepath.Join(dir, role+"_password"), []byte("of-"+role+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(r.owner)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	cmd := exec.CommandContext(t.Context(), "sh", deploy+"postgres/roles.sh")
	cmd.Env = append(os.Environ(), "SECRETS="+dir, "ROLES="+deploy+"postgres/roles.sql", "PGHOST="+u.Hostname(), "PGPORT="+u.Port(), "PGPASSWORD="+password)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	u.User = url.UserPassword("worker_run", "of-worker_run")
	r.exec(t, u.String(), "SELECT 1")
}

// manifest is an object of Kubernetes, as far as these tests look at it.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Replicas    int
		Template    podTemplate
		JobTemplate struct {
			Spec struct{ Template podTemplate }
		} `yaml:"jobTemplate"`
	}
}

type podTemplate struct {
	Spec struct {
		Automount       *bool `yaml:"automountServiceAccountToken"`
		Grace           int   `yaml:"terminationGracePeriodSeconds"`
		SecurityContext struct {
			RunAsNonRoot bool                  `yaml:"runAsNonRoot"`
			RunAsUser    int                   `yaml:"runAsUser"`
			Seccomp      struct{ Type string } `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		InitContainers []container `yaml:"initContainers"`
		Containers     []container
		Volumes        []struct {
			Name   string
			Secret struct {
				SecretName string `yaml:"secretName"`
			}
		}
	}
}

type container struct {
	Name, Image string
	Args        []string
	Env         []struct{ Name, Value string }
	EnvFrom     []struct {
		ConfigMapRef struct{ Name string } `yaml:"configMapRef"`
	} `yaml:"envFrom"`
	Ports []struct {
		ContainerPort int `yaml:"containerPort"`
	}
	StartupProbe    probe `yaml:"startupProbe"`
	LivenessProbe   probe `yaml:"livenessProbe"`
	ReadinessProbe  probe `yaml:"readinessProbe"`
	SecurityContext struct {
		Escalation   *bool                   `yaml:"allowPrivilegeEscalation"`
		ReadOnly     bool                    `yaml:"readOnlyRootFilesystem"`
		Capabilities struct{ Drop []string } `yaml:"capabilities"`
	} `yaml:"securityContext"`
	Resources    struct{ Limits map[string]string }
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet struct {
		Path        string
		HTTPHeaders []struct{ Name, Value string } `yaml:"httpHeaders"`
	} `yaml:"httpGet"`
}

// manifests are the objects of deploy/kubernetes by kind and name.
func manifests(t *testing.T) map[string]manifest {
	t.Helper()
	var list struct{ Resources []string }
	if err := yaml.Unmarshal(readDeploy(t, "kubernetes/kustomization.yaml"), &list); err != nil {
		t.Fatal(err)
	}
	all := map[string]manifest{}
	for _, file := range list.Resources {
		decoder := yaml.NewDecoder(bytes.NewReader(readDeploy(t, "kubernetes/"+file)))
		for {
			var m manifest
			err := decoder.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all[m.Kind+"/"+m.Metadata.Name] = m
		}
	}
	for _, name := range []string{"PodDisruptionBudget/worker", "NetworkPolicy/worker", "ServiceAccount/worker", "Service/worker"} {
		if _, ok := all[name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
	return all
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	deployment := all["Deployment/worker"].Spec
	if deployment.Replicas != 2 {
		t.Errorf("%d replicas", deployment.Replicas)
	}
	pods := []podTemplate{deployment.Template, all["CronJob/worker-repair"].Spec.JobTemplate.Spec.Template}
	calls := 0
	for _, pod := range pods {
		s := pod.Spec
		if !s.SecurityContext.RunAsNonRoot || s.SecurityContext.RunAsUser == 0 || s.SecurityContext.Seccomp.Type != "RuntimeDefault" || s.Automount == nil || *s.Automount || s.Grace <= 20 {
			t.Errorf("pod %+v", s)
		}
		for _, c := range append(s.InitContainers, s.Containers...) {
			calls++
			checkContainer(t, all, pod, c)
		}
	}
	if calls != 3 {
		t.Errorf("%d containers", calls)
	}
	worker := deployment.Template.Spec.Containers[0]
	for path, p := range map[string][]probe{"/livez": {worker.StartupProbe, worker.LivenessProbe}, "/readyz": {worker.ReadinessProbe}} {
		for _, p := range p {
			if p.HTTPGet.Path != path || len(p.HTTPGet.HTTPHeaders) != 1 || worker.Ports[0].ContainerPort != 8080 {
				t.Errorf("probe %+v, want %s", p, path)
			}
		}
	}
}

func checkContainer(t *testing.T, all map[string]manifest, pod podTemplate, c container) {
	t.Helper()
	if c.Image != "alpha-oracle/worker" || c.Resources.Limits["memory"] == "" {
		t.Errorf("%s: image %s, limits %v", c.Name, c.Image, c.Resources.Limits)
	}
	sc := c.SecurityContext
	if sc.Escalation == nil || *sc.Escalation || !sc.ReadOnly || !slices.Equal(sc.Capabilities.Drop, []string{"ALL"}) {
		t.Errorf("%s: %+v", c.Name, sc)
	}
	if err := checkCommand(c.Args); err != nil {
		t.Errorf("%s: %v", c.Name, err)
	}
	env := map[string]string{}
	for _, from := range c.EnvFrom {
		for name, value := range all["ConfigMap/"+from.ConfigMapRef.Name].Data {
			env[name] = value
		}
	}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	if len(env) == 0 {
		t.Errorf("%s has no environment", c.Name)
	}
	if err := checkEnvironment(t, env); err != nil {
		t.Errorf("%s: %v", c.Name, err)
	}
	for name, value := range env {
		if strings.HasSuffix(name, "_FILE") && !pod.mountsSecret(c, filepath.Dir(value)) {
			t.Errorf("%s: %s=%s: no secret is mounted there", c.Name, name, value)
		}
	}
}

// mountsSecret reports whether a container has a secret at path.
func (p podTemplate) mountsSecret(c container, path string) bool {
	for _, m := range c.VolumeMounts {
		for _, v := range p.Spec.Volumes {
			if m.MountPath == path && m.Name == v.Name && v.Secret.SecretName != "" {
				return true
			}
		}
	}
	return false
}

// unit reads a file of systemd: the values of each key, those that are set again
// behind each other.
func unit(t *testing.T, names ...string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, name := range names {
		for line := range strings.Lines(string(readDeploy(t, "systemd/"+name))) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") {
				continue
			}
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				t.Fatalf("%s: %q is no KEY=VALUE", name, line)
			}
			found[key] = append(found[key], value)
		}
	}
	return found
}

func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	for _, files := range [][]string{{"worker.service"}, {"worker.service", "servers.conf"}, {"worker.service", "alarms.conf"}} {
		u := unit(t, files...)
		words := strings.Fields(u["ExecStart"][0])
		if words[0] != "/usr/local/bin/worker" {
			t.Errorf("ExecStart %q", words)
		}
		if err := checkCommand(words[1:]); err != nil {
			t.Error(err)
		}
		credentials, env := map[string]bool{}, map[string]string{}
		for _, c := range u["LoadCredential"] {
			name, _, _ := strings.Cut(c, ":")
			credentials["%d/"+name] = true
		}
		for _, e := range u["Environment"] {
			name, value, _ := strings.Cut(e, "=")
			env[name] = value
			if strings.HasSuffix(name, "_FILE") && !credentials[value] {
				t.Errorf("%s: %s is no credential", name, value)
			}
		}
		if err := checkEnvironment(t, env); err != nil {
			t.Error(err)
		}
	}
	for key, want := range map[string]string{
		"Type": "notify", "WatchdogSec": "60", "DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict",
		"CapabilityBoundingSet": "", "RestartPreventExitStatus": fmt.Sprint(exitUsage), "MemoryDenyWriteExecute": "yes",
	} {
		if got := unit(t, "worker.service")[key]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s=%q, want %q", key, got, want)
		}
	}
}

// Each way to deploy has a place for all that alarms need.
func TestAlarmsCanBeSetWhereverItRuns(t *testing.T) {
	t.Parallel()
	pod := manifests(t)["Deployment/worker"].Spec.Template.Spec.Containers[0]
	kubernetes := manifests(t)["ConfigMap/worker"].Data
	for _, e := range pod.Env {
		kubernetes[e.Name] = e.Value
	}
	systemd := map[string]string{"SA_ALARM__BARS_DEADLINE": "in worker.env"}
	for _, e := range unit(t, "alarms.conf")["Environment"] {
		name, value, _ := strings.Cut(e, "=")
		systemd[name] = value
	}
	for where, env := range map[string]map[string]string{
		"compose.yaml": readCompose(t).Services["worker"].Environment, "kubernetes": kubernetes, "alarms.conf": systemd,
	} {
		for _, s := range settings() {
			name := s.env
			if s.secret {
				name += "_FILE"
			}
			if _, there := env[name]; strings.HasPrefix(name, "SA_ALARM__") && !there {
				t.Errorf("%s has no %s", where, name)
			}
		}
	}
}

// The worker answers to the names that its Service has in the cluster.
func TestKubernetesHosts(t *testing.T) {
	t.Parallel()
	var hosts []string
	for _, e := range manifests(t)["Deployment/worker"].Spec.Template.Spec.Containers[0].Env {
		if e.Name == "SA_HTTP__HOSTS" {
			hosts = strings.Split(e.Value, ",")
		}
	}
	want := []string{"worker", "worker.alpha-oracle", "worker.alpha-oracle.svc", "worker.alpha-oracle.svc.cluster.local"}
	if !slices.Equal(hosts, want) {
		t.Errorf("hosts %q, want %q", hosts, want)
	}
}

// The commands of docs/deploy.md exist, with their flags.
func TestDeployDocumentNamesRealCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`(?:^|\s)(?:/|bin/)?worker ([a-z][^|>#;]*)`)
	block, calls := false, 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "```") {
			block = strings.HasPrefix(line, "```sh")
			continue
		}
		// The service of that name comes before the program itself.
		line = regexp.MustCompile(`(run --rm|exec) worker `).ReplaceAllString(line, "")
		found := call.FindStringSubmatch(strings.TrimSpace(line))
		if !block || found == nil || strings.Contains(line, "create secret") {
			continue
		}
		calls++
		if err := checkCommand(strings.Fields(found[1])); err != nil {
			t.Errorf("%s: %v", strings.TrimSpace(line), err)
		}
	}
	if calls < 10 {
		t.Errorf("only %d calls of the program found", calls)
	}
}
