package cause

// Phrases are for the tests.
var Phrases = phrases
