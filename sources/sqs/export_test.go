package sqs

// Diagnose is diagnose, for tests outside of the package.
var Diagnose = diagnose
