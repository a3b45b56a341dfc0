// A whole model as a Hugging Face repository holds it, small enough to make in a test: a one-layer Llama with seeded random
// weights, a byte-level tokenizer and a chat template. What it says is noise, but it says the same every time.
import { Buffer } from 'node:buffer';

const HIDDEN = 64;
const VOCAB = 262;
const EOS = 260;

const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: HIDDEN,
  intermediate_size: 128,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  num_key_value_heads: 1,
  head_dim: HIDDEN,
  vocab_size: VOCAB,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: 'silu',
  tie_word_embeddings: true,
  attention_bias: false,
  torch_dtype: 'float32',
  bos_token_id: EOS,
  eos_token_id: EOS,
};

const SHAPES: Readonly<Record<string, readonly number[]>> = {
  'model.embed_tokens.weight': [VOCAB, HIDDEN],
  'model.norm.weight': [HIDDEN],
  'model.layers.0.input_layernorm.weight': [HIDDEN],
  'model.layers.0.post_attention_layernorm.weight': [HIDDEN],
  'model.layers.0.self_attn.q_proj.weight': [HIDDEN, HIDDEN],
  'model.layers.0.self_attn.k_proj.weight': [HIDDEN, HIDDEN],
  'model.layers.0.self_attn.v_proj.weight': [HIDDEN, HIDDEN],
  'model.layers.0.self_attn.o_proj.weight': [HIDDEN, HIDDEN],
  'model.layers.0.mlp.gate_proj.weight': [128, HIDDEN],
  'model.layers.0.mlp.up_proj.weight': [128, HIDDEN],
  'model.layers.0.mlp.down_proj.weight': [HIDDEN, 128],
};

export interface TinyModelOptions {
  /** A token whose embedding is no number: the model has a head of its own then, so that only what sees the token is spoiled. */
  readonly damagedToken?: number;
}

/** Name -> content of every file of the repository. */
export function tinyModel({ damagedToken }: TinyModelOptions = {}): ReadonlyMap<string, Buffer> {
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  return new Map([
    ['config.json', json({ ...CONFIG, tie_word_embeddings: damagedToken === undefined })],
    ['generation_config.json', json({ eos_token_id: [EOS] })],
    ['tokenizer.json', json(tokenizer())],
    [
      'tokenizer_config.json',
      json({
        eos_token: '<|end|>',
        chat_template:
          "{% for message in messages %}{{ message['role'] + ':' + message['content'] + '\\n' }}{% endfor %}",
      }),
    ],
    ['model.safetensors', weights(damagedToken)],
  ]);
}

function tokenizer(): object {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  const alphabet = Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(printable(byte) ? byte : next++),
  );
  const tokens = [...alphabet, 'th', 'the', 'Ġthe', 'in'];
  return {
    version: '1.0',
    added_tokens: [{ id: EOS, content: '<|end|>', special: true }].map((token) => ({
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      ...token,
    })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries([...tokens, '<|end|>'].map((token, id) => [token, id])),
      merges: ['t h', 'th e', 'Ġ the', 'i n'],
    },
  };
}

function weights(damagedToken?: number): Buffer {
  let state = 12345;
  const draw = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  };
  const header: Record<string, object> = {};
  const tensors: Buffer[] = [];
  let offset = 0;
  const shapes =
    damagedToken === undefined
      ? SHAPES
      : { ...SHAPES, 'lm_head.weight': SHAPES['model.embed_tokens.weight'] ?? [] };
  for (const [name, shape] of Object.entries(shapes)) {
    const count = shape.reduce((product, size) => product * size, 1);
    const values = Float32Array.from({ length: count }, () => (name.includes('norm') ? 1 : draw() * 0.3));
    if (damagedToken !== undefined && name === 'model.embed_tokens.weight')
      values.fill(Number.NaN, damagedToken * HIDDEN, (damagedToken + 1) * HIDDEN);
    const bytes = Buffer.from(values.buffer);
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, (offset += bytes.length)] };
    tensors.push(bytes);
  }
  const text = JSON.stringify(header);
  const head = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(head.length));
  return Buffer.concat([length, head, ...tensors]);
}
