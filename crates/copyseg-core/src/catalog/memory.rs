//! A catalog in memory, for tests and for jobs that need not outlive the process.
