package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"moss/storage/image"
	"moss/storage/registry"
)

// login keeps credentials that a registry takes, asking for what is missing.
func login(ctx context.Context, req *image.LoginRequest) error {
	logins, err := registry.NewLogins(registry.Access{TLSVerify: req.TLSVerify, AuthFile: req.AuthFile, CertDir: req.CertDir}, req.CompatFile)
	if err != nil {
		return err
	}
	key, err := logins.Key(req.Key)
	if err != nil {
		return err
	}
	known, err := logins.User(key)
	if req.Get {
		if err == nil {
			fmt.Println(known)
		}
		return err
	}
	if err != nil && !errors.Is(err, registry.ErrNotLoggedIn) {
		return err
	}
	if err == nil && req.User == "" && req.Password == "" {
		fmt.Printf("Authenticating with existing credentials for %s\n", key)
		if err = logins.CheckStored(ctx, key); err == nil {
			fmt.Printf("Existing credentials are valid. Already logged in to %s\n", key)
			return nil
		}
		fmt.Printf("Existing credentials are invalid, please enter valid username and password\n")
	}
	user, password, err := ask(req, known)
	if err != nil {
		return fmt.Errorf("cannot log in to %q: %w", key, err)
	}
	where, err := logins.Login(ctx, key, user, password)
	if err != nil {
		return err
	}
	if req.Verbose {
		fmt.Printf("Used: %s\n", where)
	}
	fmt.Println("Login Succeeded!")
	return nil
}

// ask completes a name and a password; known is the name that there is already.
func ask(req *image.LoginRequest, known string) (user, password string, err error) {
	if req.PasswordStdin {
		data, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
		return req.User, strings.TrimRight(string(data), "\r\n"), err
	}
	user, password = req.User, req.Password
	if user == "" {
		prompt := "Username: "
		if known != "" {
			prompt = fmt.Sprintf("Username (%s): ", known)
		}
		fmt.Print(prompt)
		line, err := bufio.NewReaderSize(os.Stdin, 16).ReadString('\n')
		if err != nil && line == "" {
			return "", "", errors.New("the user name is missing: give --username")
		}
		if user = strings.TrimSpace(line); user == "" {
			user = known
		}
		if user == "" {
			return "", "", errors.New("the user name is empty")
		}
	}
	if password == "" {
		password, err = askPassword("Password: ", "--password-stdin")
	}
	return user, password, err
}

// askPassword reads from the terminal without showing it, or says which flag gives
// it. The terminal shows again what is typed whichever way this ends.
func askPassword(prompt, flag string) (string, error) {
	stdin := int(os.Stdin.Fd())
	before, err := term.GetState(stdin)
	if err != nil {
		return "", fmt.Errorf("the password is missing, and nobody can be asked: standard input is no terminal; give %s", flag)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(interrupted)
	go func() { // ends with the program, or after the login with it
		<-interrupted
		term.Restore(stdin, before)
		fmt.Println()
		os.Exit(130)
	}()
	fmt.Fprint(os.Stderr, prompt)
	password, err := term.ReadPassword(stdin)
	fmt.Fprintln(os.Stderr)
	if err == nil && len(password) == 0 {
		err = errors.New("the password is empty")
	}
	return string(password), err
}

// logout forgets credentials.
func logout(req *image.LogoutRequest) error {
	logins, err := registry.NewLogins(registry.Access{AuthFile: req.AuthFile}, req.CompatFile)
	if err != nil {
		return err
	}
	if req.All {
		if err := logins.LogoutAll(); err != nil {
			return err
		}
		fmt.Println("Removed login credentials for all registries")
		return nil
	}
	key, err := logins.Key(req.Key)
	if err != nil {
		return err
	}
	if err := logins.Logout(key); err != nil {
		return err
	}
	fmt.Printf("Removed login credentials for %s\n", key)
	return nil
}
