package memgraph_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/bolt"
)

func TestCredentialsComeFromOnePlace(t *testing.T) {
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "f")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	ada, empty := bolt.Auth{User: "ada", Password: "secret"}, bolt.Auth{}
	for name, c := range map[string]struct {
		files memgraph.Credentials
		env   bolt.Auth
		want  bolt.Auth
		says  string
	}{
		"nowhere":                      {memgraph.Credentials{}, empty, empty, ""},
		"the environment":              {memgraph.Credentials{}, ada, ada, ""},
		"a user alone":                 {memgraph.Credentials{}, bolt.Auth{User: "ada"}, empty, "MEMGRAPH_USER, MEMGRAPH_PASSWORD: one of the two is empty"},
		"a password alone":             {memgraph.Credentials{}, bolt.Auth{Password: "secret"}, empty, "one of the two is empty"},
		"files":                        {memgraph.Credentials{UserFile: file("ada\n"), PasswordFile: file("secret\r\n")}, empty, ada, ""},
		"files, and the environment":   {memgraph.Credentials{UserFile: file("ada"), PasswordFile: file("x")}, ada, empty, "MEMGRAPH_USER or MEMGRAPH_PASSWORD is set too"},
		"one file":                     {memgraph.Credentials{PasswordFile: file("x")}, empty, empty, "only one of them is given"},
		"a file that is not there":     {memgraph.Credentials{UserFile: "/none", PasswordFile: file("x")}, empty, empty, "--user-file: open /none"},
		"a user file without a user":   {memgraph.Credentials{UserFile: file("\n"), PasswordFile: file("x")}, empty, empty, "--user-file: it is empty"},
		"a password file without that": {memgraph.Credentials{UserFile: file("ada"), PasswordFile: file("")}, empty, empty, "--user-file, --password-file: one of the two is empty"},
	} {
		got, err := c.files.Auth(c.env)
		assert.Equal(t, c.want, got, name)
		if c.says == "" {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorContains(t, err, c.says, name)
		}
	}
}
