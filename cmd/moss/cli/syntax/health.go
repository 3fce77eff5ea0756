package syntax

import (
	"encoding/json"
	"errors"
	"strings"
)

// HealthTest reads --health-cmd as Docker's HEALTHCHECK has it: CMD and words, or
// CMD-SHELL and a line, or NONE. A JSON array is words; anything else is a line.
func HealthTest(s string) ([]string, error) {
	var list []string
	if strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &list) == nil {
		switch {
		case len(list) == 0 || list[0] == "":
			return nil, errors.New("it has no command")
		case len(list) == 1 && list[0] == "NONE", len(list) > 1 && (list[0] == "CMD" || list[0] == "CMD-SHELL"):
			return list, nil
		}
		return append([]string{"CMD"}, list...), nil
	}
	word, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	rest = strings.TrimSpace(rest)
	switch {
	case strings.EqualFold(word, "none") && rest == "":
		return []string{"NONE"}, nil
	case word == "CMD" && rest != "":
		return append([]string{"CMD"}, strings.Fields(rest)...), nil
	case word == "CMD-SHELL" && rest != "":
		return []string{"CMD-SHELL", rest}, nil
	case word == "":
		return nil, errors.New("it has no command")
	}
	return []string{"CMD-SHELL", s}, nil
}
