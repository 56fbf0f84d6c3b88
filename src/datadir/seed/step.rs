//! The places at which making a member may die; its name is the name of a fail point (`seed:placed`) and never changes.

crate::steps! {
    /// What has just been done.
    pub enum Step of "seed" {
        /// The member is whole, beside the place where it is to lie.
        Written = "written",
        /// Its log lies where it is to lie, outside of the data directory.
        LogPlaced = "log-placed",
        /// It lies in its place; what was needed to make it is still there.
        Placed = "placed",
    }
}
