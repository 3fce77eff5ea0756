// Package test holds what is checked of moss as a whole: its architecture, and
// what its programs promise. See CONTRIBUTING.md for how to run one test.
package test
