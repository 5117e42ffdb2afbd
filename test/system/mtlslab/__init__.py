"""Laboratory for system tests: namespaces with several paths, certificates, tools, attackers."""
