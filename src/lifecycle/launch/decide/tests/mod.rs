//! The launch table, row by row, and what holds for every world.

mod fleet;
mod rows;
mod settling;
mod simulation;
mod texts;
mod totality;
mod world;
