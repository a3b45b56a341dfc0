// vLLM 0.26 (FlashAttention 3, CUDA graphs) serving Qwen2.5-7B in bf16 on one H200, as reported; not measured here.

/** Milliseconds a decode step, by batch x context. */
export const VLLM: Readonly<Record<string, number>> = {
  '1x32768': 5.2,
  '1x131072': 6.5,
  '8x32768': 8.2,
  '8x131072': 18.1,
  '16x122880': 29.2,
  '1x1048576': 18.5,
};

/** Seconds to the first token, by prompt tokens. */
export const VLLM_FIRST_TOKEN: Readonly<Record<string, number>> = { '32768': 1.03, '131072': 8.2 };

/** The metric of ours that stands beside it. */
export const FIRST_TOKEN = 'time to first token';
