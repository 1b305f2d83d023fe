//! SCEP challenges and transactions.
