// Every setting of the worker in one table: flag `--grpc-port`, variable SPOTLIGHT_GRPC_PORT, parser, default, help.
// A flag wins over its variable. Attention settings have no default here: the native module's own stand (DEFAULT_ATTENTION).
import { SELECTOR_NAMES } from '@spotlight/cuda';
import type { Parser } from './values.js';
import { addresses, duration, flag, integer, layers, oneOf, rate, share, size, text, url } from './values.js';

export interface Setting<T> {
  readonly parse: Parser<T>;
  /** Text form, so that --help shows what the parser reads; undefined: the setting may be absent. */
  readonly fallback: string | undefined;
  readonly help: string;
  /** A variable besides SPOTLIGHT_*, which other tools of the field read as well. */
  readonly alias?: string;
  /** Never echoed, and without a flag: a command line is public on its machine. */
  readonly secret?: true;
  /** The flag may be repeated. */
  readonly repeated?: true;
}

function setting<T>(parse: Parser<T>, fallback: string, help: string): Setting<T> & { fallback: string } {
  return { parse, fallback, help };
}

function optional<T>(parse: Parser<T>, help: string): Setting<T> & { fallback: undefined } {
  return { parse, fallback: undefined, help };
}

const port = integer(0, 65535);
const tokens = integer(0, 2 ** 31 - 1);

export const SETTINGS = {
  model: setting(
    text,
    'smollm2-135m-instruct',
    'GGUF file, Hugging Face folder or id (org/name, org/name:file.gguf), or dummy:SHAPE[:seed]',
  ),
  servedModelName: optional(text, "the name clients use; default: the model's own"),
  artifact: setting(
    text,
    'auto',
    'hash artifact file; auto takes what ships for the model, none serves dense',
  ),
  cache: optional(text, 'folder of downloaded models; default ~/.cache/spotlight'),
  artifactCache: optional(
    text,
    'folder of artifacts fetched from control planes; default: artifacts in --cache',
  ),
  hubUrl: { ...setting(url, 'https://huggingface.co', 'the model hub'), alias: 'HF_ENDPOINT' },
  hubToken: {
    ...optional(text, 'token for gated or private models of the hub'),
    secret: true,
    alias: 'HF_TOKEN',
  },
  tlsCert: optional(text, 'certificate (PEM) of this process; all its ports then speak TLS'),
  tlsKey: optional(text, 'private key (PEM) of --tls-cert'),
  tlsCa: optional(
    text,
    'authority (PEM) of the fleet: control planes are dialled by TLS and checked with it, and whoever connects must show a certificate of it',
  ),
  tlsName: optional(
    text,
    'name that certificates of control planes carry, where they are dialled by address',
  ),
  host: setting(text, '127.0.0.1', 'address that gRPC and metrics bind'),
  grpcPort: setting(port, '8100', 'port of the Worker service; 0 takes a free one'),
  metricsPort: setting(port, '9100', 'port of /metrics, /healthz and /livez; 0 takes a free one'),
  advertiseHost: optional(
    text,
    'host name the control plane dials; default: the bound one, or this host by name',
  ),
  workerId: optional(text, 'name of this worker in the fleet, unique; default: host name and gRPC port'),
  join: {
    ...optional(addresses, 'control plane to join, host:port of its gRPC door; comma-separated or repeated'),
    repeated: true,
  },
  joinToken: { ...optional(text, 'token the control plane asks of workers'), secret: true },
  device: setting(
    oneOf('auto', 'cpu', 'cuda'),
    'auto',
    'device to compute on; auto takes a GPU when there is one that can be used',
  ),
  threads: optional(integer(1, 1024), 'compute threads; default: physical cores'),
  isa: setting(oneOf('auto', 'portable', 'avx2', 'avx512'), 'auto', 'instruction set of the CPU kernels'),
  kvMemory: optional(
    size,
    'memory of the cache blocks; default: on a GPU what is free, else a quarter of the free memory, at most 4GiB',
  ),
  codeBits: optional(integer(64, 1024), 'width of a code plane, bits a token and KV head; default 128'),
  maxBatchTokens: optional(integer(1, 65536), 'most tokens in one batch; default 512, on a GPU 8192'),
  maxSequences: optional(integer(1, 4096), 'most choices running at once; default 256'),
  stepTokens: optional(
    integer(1, 65536),
    'most tokens the scheduler puts in one step; default and most: --max-batch-tokens',
  ),
  mixedPromptTokens: optional(
    integer(1, 65536),
    'most prompt tokens in a step that also decodes: more fill prompts sooner and make running streams wait; default 256',
  ),
  maxWaiting: optional(integer(0, 1_000_000), 'most requests waiting to run; more are refused as overloaded'),
  maxModelLen: optional(integer(2, 2 ** 30), "context limit, tokens; default and most: the model's own"),
  attentionBackend: optional(
    oneOf('dense', 'spotlight', ...SELECTOR_NAMES),
    'how generated tokens attend; default: spotlight with an artifact, dense without; other names need --attention-selectors',
  ),
  attentionSelectors: setting(
    flag,
    'false',
    'let requests name evaluation methods as their backend (oracle, quest, ...): for experiments, on a CPU',
  ),
  attentionFraction: optional(share, 'share of the context retrieved a KV head'),
  attentionMinTokens: optional(tokens, 'least tokens retrieved a KV head'),
  attentionSink: optional(tokens, 'first tokens of the context always retrieved'),
  attentionRecent: optional(tokens, 'newest tokens always retrieved'),
  attentionTail: optional(oneOf('block-mean', 'none'), 'how tokens not retrieved take part'),
  attentionTailFrom: optional(integer(0, 9999), 'first layer that uses the tail'),
  attentionCrossover: optional(
    tokens,
    'contexts shorter than this attend densely, tokens; default: where retrieval begins to win on the device',
  ),
  attentionRecommended: setting(
    oneOf('use', 'ignore'),
    'use',
    'whether the settings that the artifact of this start recommends stand where none is given',
  ),
  attentionLayers: optional(layers, 'layers that differ, such as 0-1:dense,5:sparse,6-8:sparse-tail:0.05'),
  rehashShare: setting(
    share,
    '0.05',
    'share of the time that rehashing cached blocks for a new artifact may take while requests run',
  ),
  qualityRate: setting(
    rate,
    '0.005',
    'share of the steps in which one row is measured against exact attention; 0 measures none',
  ),
  degradedAfter: setting(duration, '30s', 'age of the last step, while work waits, that counts as degraded'),
  shutdownTimeout: setting(duration, '30s', 'time running requests get to finish after SIGTERM'),
  announce: setting(flag, 'false', 'print one JSON line with the addresses on stdout when ready'),
  exitWithParent: setting(
    flag,
    'false',
    'end when standard input closes, as it does when the parent is gone',
  ),
  logLevel: setting(
    oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
    'info',
    'least severe log line written to stderr',
  ),
} as const satisfies Readonly<Record<string, Setting<unknown>>>;

export type SettingName = keyof typeof SETTINGS;

export const SETTING_NAMES = Object.freeze(Object.keys(SETTINGS) as SettingName[]);

/** `grpcPort` -> `grpc-port`: the flag without its dashes. */
export function flagOf(name: SettingName): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `grpcPort` -> `SPOTLIGHT_GRPC_PORT`. */
export function variableOf(name: SettingName): string {
  return `SPOTLIGHT_${flagOf(name).replaceAll('-', '_').toUpperCase()}`;
}
