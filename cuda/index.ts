// R7: the typed face of the native module. Types and errors need no addon, so that a test on the fake engine loads none.
export * from './errors.js';
export * from './types.js';
