// How this worker reaches a control plane, in one place for the Join stream and for fetching artifacts.
import { credentials } from '@grpc/grpc-js';
import { FleetClient } from '@spotlight/proto';

/** A connection of its own each time: a shared one would bring the waits of earlier attempts with it. */
export function dial(address: string): FleetClient {
  return new FleetClient(address, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.keepalive_time_ms': 10_000,
    'grpc.keepalive_timeout_ms': 5000,
    'grpc.enable_retries': 0,
    'grpc.max_receive_message_length': -1,
  });
}
