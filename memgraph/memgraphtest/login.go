package memgraphtest

import (
	"crypto/subtle"
)

// authenticate checks what HELLO or LOGON brought. Without a user anybody may
// log in. Checking a password costs LoginTime, during which nobody else's is
// checked: Memgraph hashes under a lock (observed: 236 ms with bcrypt).
func (s *session) authenticate(auth map[string]any) bool {
	scheme, given := auth["scheme"].(string)
	if given && scheme != "none" && scheme != "basic" {
		return false
	}
	if s.cfg.User == "" {
		return true
	}
	user, _ := auth["principal"].(string)
	password, _ := auth["credentials"].(string)
	if scheme != "basic" || user != s.cfg.User {
		return false
	}
	s.hash()
	return subtle.ConstantTimeCompare([]byte(password), []byte(s.cfg.Password)) == 1
}

func (s *session) hash() {
	if s.cfg.LoginTime <= 0 {
		return
	}
	s.loginLock.Lock()
	defer s.loginLock.Unlock()
	sleep(s.life, s.cfg.LoginTime)
}
