mod mutations;
