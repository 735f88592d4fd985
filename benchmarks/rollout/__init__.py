"""Roll-outs over a thousand simulated edges: false roll-backs, exposure to harm, time, convergence."""
