// MockInterview.vue is what mock-interview.d.ts declares: each type is given where the other is wanted.

import type Component from "../MockInterview.vue";
import type Declaration from "../mock-interview.d.ts";
import type { MockInterviewExposed as Exposed } from "../mock-interview.d.ts";

type Found = InstanceType<typeof Component>;
type Declared = InstanceType<typeof Declaration>;

/** Events are among the props, as `on` and their name. Required: else a name that the other has not would pass. */
export const props = (found: Found["$props"]): Declared["$props"] => found;
export const propsBack = (declared: Declared["$props"]): Found["$props"] => declared;
export const names = (found: Required<Found["$props"]>): Required<Declared["$props"]> => found;
export const namesBack = (declared: Required<Declared["$props"]>): Required<Found["$props"]> => declared;
export const exposed = (found: Found): Exposed => found;
