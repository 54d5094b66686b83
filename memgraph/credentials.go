package memgraph

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"

	"memgraph-controller/memgraph/bolt"
)

// Credentials say where to find whom to log in as: in files, or in the environment,
// never in a flag's value. The zero value is the environment.
type Credentials struct {
	UserFile, PasswordFile string
}

// AddFlags has f set c.
func (c *Credentials) AddFlags(f *flag.FlagSet) {
	f.StringVar(&c.UserFile, "user-file", "", "file that holds Memgraph's user name, read anew for each login")
	f.StringVar(&c.PasswordFile, "password-file", "", "file that holds Memgraph's password, read anew for each login")
}

// Login is what Auth returns, read anew by every call: files may be renewed. While they
// cannot be used it is what they held before.
func (c Credentials) Login(env bolt.Auth) (bolt.Login, error) {
	var mu sync.Mutex
	auth, err := c.Auth(env)
	if err != nil {
		return nil, err
	}
	return func() bolt.Auth {
		mu.Lock()
		defer mu.Unlock()
		if renewed, err := c.Auth(env); err == nil {
			auth = renewed
		}
		return auth
	}, nil
}

// Auth is what the files hold, or else env, which is that of the environment; without
// either, logins carry nothing. A user without a password, or the other way round, is a
// mistake: to log in as somebody else than was meant would only fail later.
func (c Credentials) Auth(env bolt.Auth) (bolt.Auth, error) {
	auth, from := env, "MEMGRAPH_USER, MEMGRAPH_PASSWORD"
	if c != (Credentials{}) {
		if env != (bolt.Auth{}) {
			return bolt.Auth{}, errors.New("--user-file, --password-file: MEMGRAPH_USER or MEMGRAPH_PASSWORD is set too; unset them or drop the flags")
		}
		var err error
		if auth, err = c.read(); err != nil {
			return bolt.Auth{}, err
		}
		from = "--user-file, --password-file"
	}
	if (auth.User == "") != (auth.Password == "") {
		return bolt.Auth{}, fmt.Errorf("%s: one of the two is empty; give both or neither", from)
	}
	return auth, nil
}

// read is what the files hold, less the line's end.
func (c Credentials) read() (auth bolt.Auth, err error) {
	if c.UserFile == "" || c.PasswordFile == "" {
		return auth, errors.New("--user-file, --password-file: only one of them is given; give both or neither")
	}
	for _, f := range []struct {
		flag, path string
		into       *string
	}{{"user-file", c.UserFile, &auth.User}, {"password-file", c.PasswordFile, &auth.Password}} {
		content, err := os.ReadFile(f.path)
		if err != nil {
			return auth, fmt.Errorf("--%s: %w", f.flag, err)
		}
		*f.into = strings.TrimRight(string(content), "\r\n")
	}
	if auth.User == "" {
		return auth, errors.New("--user-file: it is empty")
	}
	return auth, nil
}
