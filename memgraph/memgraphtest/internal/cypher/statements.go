package cypher

import "strconv"

// Statement is a *Query or one of the types below.
type Statement any

// Statements of replication. Source: Memgraph v3.12 MemgraphCypher.g4:630-690.
type (
	// ShowRole is SHOW REPLICATION ROLE.
	ShowRole struct{}
	// ShowReplicas is SHOW REPLICAS.
	ShowReplicas struct{}
	// SetMain is SET REPLICATION ROLE TO MAIN.
	SetMain struct{}
	// SetReplica is SET REPLICATION ROLE TO REPLICA WITH PORT.
	SetReplica struct{ Port int64 }
	// Register is REGISTER REPLICA; Mode is sync, async or strict_sync.
	Register struct{ Name, Mode, Address string }
	// Drop is DROP REPLICA.
	Drop struct{ Name string }
)

// The other statements.
type (
	// Show is SHOW followed by Topic, in capitals.
	Show struct{ Topic string }
	// Enterprise is what needs a licence.
	Enterprise struct{}
	// CreateSnapshot is CREATE SNAPSHOT.
	CreateSnapshot struct{}
	// StorageMode is STORAGE MODE; Analytical keeps no log, the other mode does.
	StorageMode struct{ Analytical bool }
	// Transaction is BEGIN, COMMIT or ROLLBACK as a query.
	Transaction struct{ Verb string }
)

// topics of SHOW that are answered, and those that are refused without a
// licence; longer ones come before their beginnings.
var (
	topics = [][]string{
		{"VERSION"}, {"BUILD", "INFO"}, {"CONFIG"}, {"SNAPSHOTS"}, {"STORAGE", "INFO"},
	}
	licensed = [][]string{
		{"DATABASES"}, {"DATABASE"}, {"INSTANCES"}, {"INSTANCE"},
		{"METRICS", "INFO"}, {"METRICS"}, {"REPLICATION", "LAG"},
	}
)

// Grammar is the language of a version; the zero value is the newest one's.
type Grammar struct {
	// WithoutStrictSync is of versions before 3.5.
	WithoutStrictSync bool
	// WithoutDatabaseInfo is of versions before 3.11, which do not know SHOW
	// STORAGE INFO ON CURRENT DATABASE.
	WithoutDatabaseInfo bool
}

// Parse reads one statement in the newest grammar.
func Parse(query string) (Statement, error) { return Grammar{}.Parse(query) }

// Parse reads one statement, which may end in a semicolon. It returns an *Error
// as the server sends it at RUN.
func (g Grammar) Parse(query string) (Statement, error) {
	p := &parser{grammar: g, query: query, tokens: lex(query), scope: map[string]int{}}
	s, err := p.statement()
	if err != nil {
		return nil, err
	}
	p.accept(";")
	if p.peek().kind != tokenEnd {
		return nil, p.unexpected()
	}
	return s, nil
}

// statement tells statements by their first words; the rest are queries.
func (p *parser) statement() (Statement, error) {
	switch {
	case p.accept("SHOW"):
		return p.show()
	case p.accept("SET", "REPLICATION", "ROLE"):
		return p.setRole()
	case p.accept("REGISTER", "REPLICA"):
		return p.register()
	case p.accept("DROP", "REPLICA"):
		name, err := p.symbolicName()
		return Drop{Name: name}, err
	case p.accept("CREATE", "SNAPSHOT"):
		return CreateSnapshot{}, nil
	case p.accept("STORAGE", "MODE", "IN_MEMORY_ANALYTICAL"):
		return StorageMode{Analytical: true}, nil
	case p.accept("STORAGE", "MODE", "IN_MEMORY_TRANSACTIONAL"):
		return StorageMode{}, nil
	}
	for _, verb := range []string{"BEGIN", "COMMIT", "ROLLBACK"} {
		if p.accept(verb) {
			return Transaction{Verb: verb}, nil
		}
	}
	return p.parseQuery()
}

// show reads a topic; one of the Enterprise edition is told from an unknown one.
func (p *parser) show() (Statement, error) {
	switch {
	case p.accept("REPLICATION", "ROLE"):
		return ShowRole{}, nil
	case p.accept("REPLICAS"):
		return ShowReplicas{}, nil
	case !p.grammar.WithoutDatabaseInfo && p.accept("STORAGE", "INFO", "ON", "CURRENT", "DATABASE"):
		return Show{Topic: "STORAGE INFO ON CURRENT DATABASE"}, nil
	}
	for _, words := range topics {
		start := p.peek().start
		if p.accept(words...) {
			return Show{Topic: normal(p.query[start:p.tokens[p.at-1].end])}, nil
		}
	}
	for _, words := range licensed {
		if p.accept(words...) {
			return Enterprise{}, nil
		}
	}
	return nil, p.unexpected()
}

// setRole checks the port where Memgraph's visitor does. Source: Memgraph v3.12
// cypher_main_visitor.cpp:960-990.
func (p *parser) setRole() (Statement, error) {
	if !p.accept("TO") {
		return nil, p.unexpected()
	}
	isMain := p.accept("MAIN")
	if !isMain && !p.accept("REPLICA") {
		return nil, p.unexpected()
	}
	if !p.accept("WITH", "PORT") {
		if isMain {
			return SetMain{}, nil
		}
		return nil, fail("Replica must set a port!")
	}
	t := p.peek()
	switch {
	case t.kind == tokenString || t.kind == tokenFloat:
		return nil, fail("Port must be an integer literal!")
	case t.kind == tokenName:
		p.take() // it could begin an expression
		return nil, p.unexpected()
	case t.kind != tokenInt:
		return nil, p.unexpected()
	case isMain:
		return nil, fail("Main can't set a port!")
	}
	port, err := strconv.ParseInt(p.take().text, 10, 64)
	if err != nil {
		return nil, fail("Port must be an integer literal!")
	}
	return SetReplica{Port: port}, nil
}

func (p *parser) register() (Statement, error) {
	name, err := p.symbolicName()
	if err != nil {
		return nil, err
	}
	r := Register{Name: name}
	modes := []string{"sync", "async", "strict_sync"}
	if p.grammar.WithoutStrictSync {
		modes = modes[:2]
	}
	for _, mode := range modes {
		if p.accept(mode) {
			r.Mode = mode
		}
	}
	if r.Mode == "" || !p.accept("TO") {
		return nil, p.unexpected()
	}
	if t := p.peek(); t.kind != tokenString {
		if t.kind == tokenInt || t.kind == tokenFloat {
			p.take() // it is a literal, of which the address is one
		}
		return nil, p.unexpected()
	}
	r.Address = p.take().text
	return r, nil
}

// symbolicName is a name, a keyword or anything in backticks.
func (p *parser) symbolicName() (string, error) {
	t := p.peek()
	if t.kind != tokenName && t.kind != tokenQuoted {
		return "", p.unexpected()
	}
	return p.take().text, nil
}
