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

	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"moss/storage"
)

// Programs that keep credentials ask the user's session for them: his keyring, over
// D-Bus, which lets nobody in who calls himself 0. So they are not run as ID 0 of moss's
// user namespace, but in one more, in which the user has the ID that he has outside.

// HelperCommand is the argument with which this program answers findQuestion.
const HelperCommand = "credentials"

type findQuestion struct{ Key, AuthFile, DockerFile, Registries string }

type findAnswer struct {
	Found types.DockerAuthConfig
	Error string
}

// find returns the credentials for a key, of the most specific key that there is;
// the zero value if there are none.
func find(sys *types.SystemContext, key string) (types.DockerAuthConfig, error) {
	if asksPrograms(sys) {
		if found, err := findAsUser(sys, key); !errors.Is(err, errNotAsUser) {
			return found, err
		}
	}
	return findHere(sys, key)
}

var errNotAsUser = errors.New("it cannot be run as the user")

// findAsUser is findHere in a process that has the user's ID.
func findAsUser(sys *types.SystemContext, key string) (none types.DockerAuthConfig, err error) {
	if os.Getuid() != 0 {
		return none, errNotAsUser // it has it already
	}
	uid, err := storage.HostID("/proc/self/uid_map")
	gid, gerr := storage.HostID("/proc/self/gid_map")
	if err != nil || gerr != nil || uid == 0 {
		return none, errNotAsUser
	}
	question, err := json.Marshal(findQuestion{Key: key, AuthFile: sys.AuthFilePath, DockerFile: sys.DockerCompatAuthFilePath, Registries: sys.SystemRegistriesConfPath})
	if err != nil {
		return none, err
	}
	cmd := exec.Command("/proc/self/exe", HelperCommand)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(question), &out, os.Stderr
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
	var answer findAnswer
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return none, err
	}
	if answer.Error != "" {
		return none, errors.New(answer.Error)
	}
	return answer.Found, nil
}

// Answer is what the process does that findAsUser starts.
func Answer(in io.Reader, out io.Writer) error {
	var q findQuestion
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return err
	}
	sys := &types.SystemContext{AuthFilePath: q.AuthFile, DockerCompatAuthFilePath: q.DockerFile, SystemRegistriesConfPath: q.Registries}
	var a findAnswer
	var err error
	if a.Found, err = findHere(sys, q.Key); err != nil {
		a.Error = err.Error()
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
		filepath.Join(cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "containers", "auth.json"),
		filepath.Join(cmp.Or(os.Getenv("DOCKER_CONFIG"), filepath.Join(home, ".docker")), "config.json"),
	}
}
