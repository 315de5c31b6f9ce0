package suggest

import "testing"

func TestSuggestion_nearNamesOnly(t *testing.T) {
	names := []string{"host", "port", "max_in_flight", "initial_interval", "ttl"}
	tests := map[string]string{
		"hots": "host", "hosts": "host", "prot": "port", "initialInterval": "initial_interval", "max-in-flight": "max_in_flight",
		"TTL": "ttl", "ttls": "ttl", "max_inflight": "max_in_flight", "colour": "", "x": "", "": "", "hostname_of_it": "", "tt": "", "to": "",
	}
	for word, want := range tests {
		if got := Nearest(word, names); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
