// Nanoseconds of the machine's monotonic clock: the same in every process, so times can be compared across them.
export function clock(): bigint {
  return process.hrtime.bigint();
}
