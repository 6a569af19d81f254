package p2p

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// Whoever adds a counter names its metric in metrics.go.
func TestEveryCounterHasAMetric(t *testing.T) {
	fields := map[string]bool{}
	for i := range reflect.TypeFor[Counters]().NumField() {
		f := reflect.TypeFor[Counters]().Field(i)
		fields[f.Name] = true
		m, ok := Metrics[f.Name]
		if !ok {
			t.Errorf("Counters.%s has no metric: name one in Metrics, and say what it counts", f.Name)
			continue
		}
		counts := f.Type.Kind() == reflect.Uint64
		if counts != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s is a %v, and its metric %s: what only goes up ends with _total, and nothing else", f.Name, f.Type, m.Name)
		}
		if !strings.HasSuffix(m.Help, ".") || !regexp.MustCompile(`^[a-z_]+$`).MatchString(m.Name) {
			t.Errorf("%s: metric %q with help %q", f.Name, m.Name, m.Help)
		}
	}
	names := map[string]string{}
	for field, m := range Metrics {
		if !fields[field] {
			t.Errorf("Metrics names %s, which Counters has not", field)
		}
		if other, twice := names[m.Name]; twice {
			t.Errorf("%s and %s share the metric %s", field, other, m.Name)
		}
		names[m.Name] = field
	}
}
