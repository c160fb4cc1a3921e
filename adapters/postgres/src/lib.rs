//! PostgreSQL, from 13 on: reports facts and carries out steps.
