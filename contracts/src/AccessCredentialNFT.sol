// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";

/// @title The tokens of one host: whoever holds one has access to its machine.
/// @notice The contract's owner is the host operator. Brokers lease IPv6 space to the contract and recognise the operator
/// by `owner()`.
contract AccessCredentialNFT is ERC721, Ownable2Step {
    /// @notice The id the next mint gets; ids count from 0.
    uint256 public nextTokenId;

    constructor() ERC721("BlockHost Access Credential", "ACCESS") Ownable(msg.sender) {}

    /// @notice Gives a new token to `to`. Only the owner.
    function mint(address to) external onlyOwner returns (uint256 tokenId) {
        tokenId = nextTokenId++;
        _safeMint(to, tokenId);
    }
}
