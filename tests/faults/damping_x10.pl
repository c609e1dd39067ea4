#: methods/gptq.c
s{\.percdamp = o->percdamp}{.percdamp = 10 * o->percdamp};
