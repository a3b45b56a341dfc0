import assert from 'node:assert/strict';
import { deploymentIds } from './deployment-id.js';

const key = (modelId: string, settingsDigest = 'd1'.repeat(32)): Parameters<typeof deploymentIds>[0] => ({
  modelId,
  modelFingerprint: 'f1',
  settingsDigest,
});

describe('deploymentIds', () => {
  it('begins with the name itself, fit for a URL', () => {
    assert.equal(deploymentIds(key('SmolLM2-135M-Instruct'))[0], 'smollm2-135m-instruct');
    assert.equal(deploymentIds(key('org/Model (v2)'))[0], 'org-model-v2');
    assert.equal(deploymentIds(key('../..'))[0], 'model');
    for (const id of deploymentIds(key('ü'.repeat(200)))) assert.match(id, /^[a-z0-9][a-z0-9._-]{0,127}$/);
  });

  it('goes on with the settings, and ends with what no other deployment has', () => {
    assert.equal(deploymentIds(key('m'))[1], 'm-d1d1d1d1');
    assert.equal(deploymentIds(key('m', ''))[1], 'm-0');
    const last = (modelId: string): string | undefined => deploymentIds(key(modelId)).at(-1);
    assert.notEqual(last('M'), last('m'));
    assert.equal(last('m'), last('m'));
  });
});
