//! Windows management sessions: loads, steps the machine, stores, answers.
