"""What is looked at when nobody knows where the chain is broken: from the ports to the rules, a check for each link."""
