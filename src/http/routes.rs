//! Every route of every face, in one table.
