//! The in-memory engine: serves the simulator and every test, and models checkpoints.
