// Checks a worker's Hello before anything is dialled or stored: what a worker says of itself ends up in URLs, rows and metric
// labels. Pure; every refusal names the field as the proto does.
import type { DescribeResponse, Hello, ModelDescription } from '@spotlight/proto';
import { invalidArgument } from '../errors/service-error.js';

export interface CheckedHello {
  readonly workerId: string;
  readonly address: string;
  readonly metricsAddress: string;
  readonly model: ModelDescription;
  readonly description: DescribeResponse;
}

const ID = /^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$/;
const MODEL_ID = /^[\w./:@+()= -]{1,200}$/;
const DEVICES = ['cpu', 'cuda'];
const BACKENDS = [
  ...['dense', 'spotlight'],
  // Evaluation methods, of a worker that offers them.
  ...[
    'oracle',
    'oracle-head',
    'window',
    'lsh',
    'lsh-head',
    'quest',
    'magicpig',
    'vattention',
    'h2o',
    'snapkv',
    'fastgen',
  ],
];
const ANY_ADDRESS = ['0.0.0.0', '[::]', '[::0]'];
const MAX_TEXT = 4096;

/**
 * @param peer address the stream comes from, `host:port`; stands in when the worker binds every interface
 * @throws ServiceError INVALID_ARGUMENT
 */
export function checkHello(hello: Hello, peer: string): CheckedHello {
  const { description } = hello;
  if (description === undefined) throw invalidArgument('hello.description', 'hello.description is missing.');
  if (!ID.test(description.workerId)) {
    throw invalidArgument(
      'hello.description.worker_id',
      `worker_id must be 1 to 128 letters, digits or any of . _ : @ -, not ${quote(description.workerId)}.`,
    );
  }
  const { model } = description;
  if (model === undefined) {
    throw invalidArgument('hello.description.model', 'hello.description.model is missing.');
  }
  if (!MODEL_ID.test(model.id)) {
    throw invalidArgument(
      'hello.description.model.id',
      `model.id must be 1 to 200 plain characters, not ${quote(model.id)}.`,
    );
  }
  known('model.backend', model.backend, BACKENDS);
  known('device', description.device, DEVICES);
  positive('model.max_model_len', model.maxModelLen);
  positive('model.vocab_size', model.vocabSize);
  positive('block_size', description.blockSize);
  positive('total_blocks', description.totalBlocks);
  positive('max_requests', description.maxRequests);
  for (const [name, value] of Object.entries({
    'model.fingerprint': model.fingerprint,
    'model.source': model.source,
    'model.architecture': model.architecture,
    version: description.version,
    device_name: description.deviceName,
  })) {
    if (value.length > MAX_TEXT) {
      throw invalidArgument(
        `hello.description.${name}`,
        `${name} is ${value.length} characters long; at most ${MAX_TEXT}.`,
      );
    }
  }
  return {
    workerId: description.workerId,
    address: reachable('serve_address', hello.serveAddress, peer),
    metricsAddress:
      hello.metricsAddress === '' ? '' : reachable('metrics_address', hello.metricsAddress, peer),
    model,
    description,
  };
}

/** `host:port` with a host that another machine can dial. */
function reachable(field: string, address: string, peer: string): string {
  const match = /^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]*):(\d{1,5})$/.exec(address);
  const port = Number(match?.[2]);
  if (match === null || port < 1 || port > 65535) {
    throw invalidArgument(`hello.${field}`, `${field} must be host:port, not ${quote(address)}.`);
  }
  const host = match[1] ?? '';
  if (host !== '' && !ANY_ADDRESS.includes(host)) return address;
  const from = /^(.*):\d+$/.exec(peer)?.[1];
  if (from === undefined || from === '') {
    throw invalidArgument(
      `hello.${field}`,
      `${field} ${quote(address)} names no host; start the worker with the address others reach it by.`,
    );
  }
  return `${from}:${port}`;
}

function positive(name: string, value: number): void {
  if (value > 0) return;
  throw invalidArgument(`hello.description.${name}`, `${name} must be at least 1, not ${value}.`);
}

function known(name: string, value: string, values: readonly string[]): void {
  if (values.includes(value)) return;
  throw invalidArgument(
    `hello.description.${name}`,
    `${name} must be one of ${values.join(', ')}, not ${quote(value)}.`,
  );
}

function quote(value: string): string {
  return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}...` : value);
}
