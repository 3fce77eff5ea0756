package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"moss/record/xdg"
	"moss/storage"
)

// Programs that keep credentials do so in the user's session: in his keyring, over
// D-Bus, which lets nobody in who calls himself 0. So they are not run as ID 0 of moss's
// user namespace, but in one more, in which the user has the ID that he has outside.

// HelperCommand is the argument with which this program answers a question.
const HelperCommand = "credentials"

// question is what is wanted of the credentials of a key.
type question struct {
	Verb, Key, User, Password        string
	AuthFile, DockerFile, Registries string
}

// The verbs of a question.
const (
	findVerb      = "find"
	keepVerb      = "keep"
	forgetVerb    = "forget"
	forgetAllVerb = "forget all"
)

type answer struct {
	Found       types.DockerAuthConfig
	Where       string // they are kept
	NotLoggedIn bool
	Error       string
}

// find returns the credentials for a key, of the most specific key that there is;
// the zero value if there are none.
func find(sys *types.SystemContext, key string) (types.DockerAuthConfig, error) {
	a, err := consult(sys, question{Verb: findVerb, Key: key})
	return a.Found, err
}

// consult has a question answered by a process that has the user's ID, if a program is to be
// asked, else here.
func consult(sys *types.SystemContext, q question) (a answer, err error) {
	asked := errNotAsUser
	if asksPrograms(sys) {
		a, asked = askAsUser(sys, q)
	}
	switch {
	case errors.Is(asked, errNotAsUser):
		return q.answer(sys)
	case asked != nil:
		return answer{}, asked
	case a.NotLoggedIn:
		return a, config.ErrNotLoggedIn
	case a.Error != "":
		return a, errors.New(a.Error)
	}
	return a, nil
}

// answer does what is asked.
func (q *question) answer(sys *types.SystemContext) (a answer, err error) {
	switch q.Verb {
	case findVerb:
		a.Found, err = findHere(sys, q.Key)
	case keepVerb:
		a.Where, err = config.SetCredentials(sys, q.Key, q.User, q.Password)
	case forgetVerb:
		err = config.RemoveAuthentication(sys, q.Key)
	case forgetAllVerb:
		err = config.RemoveAllAuthentication(sys)
	default:
		err = fmt.Errorf("nothing is known of %q", q.Verb)
	}
	return a, err
}

var errNotAsUser = errors.New("it cannot be run as the user")

func askAsUser(sys *types.SystemContext, q question) (none answer, err error) {
	if os.Getuid() != 0 {
		return none, errNotAsUser // it has it already
	}
	uid, err := storage.HostID("/proc/self/uid_map")
	gid, gerr := storage.HostID("/proc/self/gid_map")
	if err != nil || gerr != nil || uid == 0 {
		return none, errNotAsUser
	}
	q.AuthFile, q.DockerFile, q.Registries = sys.AuthFilePath, sys.DockerCompatAuthFilePath, sys.SystemRegistriesConfPath
	in, err := json.Marshal(q)
	if err != nil {
		return none, err
	}
	cmd := exec.Command("/proc/self/exe", HelperCommand)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		return none, errNotAsUser
	}
	if err := cmd.Wait(); err != nil {
		return none, fmt.Errorf("the process that asks for them: %w", err)
	}
	var a answer
	return a, json.Unmarshal(out.Bytes(), &a)
}

// Answer is what the process does that askAsUser starts.
func Answer(in io.Reader, out io.Writer) error {
	var q question
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return err
	}
	sys := &types.SystemContext{AuthFilePath: q.AuthFile, DockerCompatAuthFilePath: q.DockerFile, SystemRegistriesConfPath: q.Registries}
	a, err := q.answer(sys)
	if err != nil {
		a.NotLoggedIn, a.Error = errors.Is(err, config.ErrNotLoggedIn), err.Error()
	}
	return json.NewEncoder(out).Encode(a)
}

// asksPrograms says whether any file of the user's names a program that keeps credentials.
func asksPrograms(sys *types.SystemContext) bool {
	helpers, err := sysregistriesv2.CredentialHelpers(sys)
	if err == nil && slices.ContainsFunc(helpers, func(h string) bool { return h != sysregistriesv2.AuthenticationFileHelper }) {
		return true
	}
	for _, path := range authFiles(sys) {
		data, err := os.ReadFile(path)
		if err == nil && (bytes.Contains(data, []byte(`"credHelpers"`)) || bytes.Contains(data, []byte(`"credsStore"`))) {
			return true
		}
	}
	return false
}

// authFiles are the files in which credentials are looked for: the one that was named, or
// first where login writes them, then podman's lasting ones, at last Docker's. See
// containers-auth.json(5).
func authFiles(sys *types.SystemContext) []string {
	if named := cmp.Or(sys.DockerCompatAuthFilePath, sys.AuthFilePath); named != "" {
		return []string{named}
	}
	home, _ := os.UserHomeDir()
	return []string{
		filepath.Join(cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/containers/%d", os.Getuid())), "containers", "auth.json"),
		filepath.Join(cmp.Or(xdg.Config(os.Getenv), "/nonexistent"), "containers", "auth.json"),
		filepath.Join(cmp.Or(os.Getenv("DOCKER_CONFIG"), filepath.Join(home, ".docker")), "config.json"),
	}
}
