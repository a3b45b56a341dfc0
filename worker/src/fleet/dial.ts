// How this worker reaches a control plane, in one place for the Join stream and for fetching artifacts.
import { FleetClient } from '@spotlight/proto';
import type { Transport } from '@spotlight/proto/transport';

/** Opens a connection to host:port; the caller closes it. */
export type Dial = (address: string) => FleetClient;

/** A connection of its own each time: a shared one would bring the waits of earlier attempts with it. */
export function dialer(transport: Transport): Dial {
  return (address) =>
    new FleetClient(address, transport.channelCredentials(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.keepalive_time_ms': 10_000,
      'grpc.keepalive_timeout_ms': 5000,
      'grpc.enable_retries': 0,
      'grpc.max_receive_message_length': -1,
      ...transport.channelOptions(),
    });
}
