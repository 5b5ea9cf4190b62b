// For the check of types: what a class has and its declaration has not.

/** Fails to compile, and names what is left over, unless nothing is. */
export type Nothing<LeftOver extends never> = LeftOver;
