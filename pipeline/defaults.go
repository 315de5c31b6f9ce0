package pipeline

import "time"

// DefaultConfig returns a config with every default set and nothing else.
func DefaultConfig() Config {
	return Config{
		MaxInFlight: 1024, MaxInFlightBytes: 64 << 20, MessageTimeout: 30 * time.Second, ShutdownTimeout: 8 * time.Second,
		Retry: RetryConfig{
			InitialInterval: 100 * time.Millisecond, MaxInterval: 10 * time.Second, Multiplier: 2,
			MaxAttempts: 5, MaxElapsedTime: time.Minute, OnExhausted: "release",
		},
	}
}
