// The worker's entry: node worker/dist/main.js [flags], on the native module.
import * as native from '@spotlight/cuda';
import { runWorker } from './run.js';

await runWorker(native);
